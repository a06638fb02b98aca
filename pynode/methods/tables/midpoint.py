"""The explicit midpoint rule of Runge (Hairer, Norsett & Wanner I, sec. II.1), with Euler embedded.

The continuous extension k1 (theta - theta^2) + k2 theta^2 is the only quadratic one of order 2.
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

MIDPOINT = RungeKutta(
    name="Midpoint",
    order=2,
    reference="Runge 1895; Hairer, Norsett & Wanner I, sec. II.1",
    c=(0, F(1, 2)),
    a=((), (F(1, 2),)),
    b=(0, 1),
    b_err=(-1, 1),
    embedded_order=1,
    dense=((1, -1), (0, 1)),
    dense_order=2,
)
