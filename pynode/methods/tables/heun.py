"""Heun's method of order 2 (explicit trapezoidal rule; Hairer, Norsett & Wanner I, sec. II.1), with
Euler embedded.

The continuous extension k1 (theta - theta^2/2) + k2 theta^2/2 is the only quadratic one of order 2.
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

HEUN = RungeKutta(
    name="Heun",
    order=2,
    reference="Heun 1900; Hairer, Norsett & Wanner I, sec. II.1",
    c=(0, 1),
    a=((), (1,)),
    b=(F(1, 2), F(1, 2)),
    b_err=(F(-1, 2), F(1, 2)),
    embedded_order=1,
    dense=((1, F(-1, 2)), (0, F(1, 2))),
    dense_order=2,
)
