"""The trapezoidal rule (Lobatto IIIA of order 2, Hairer & Wanner II, sec. IV.5), with an explicit
first stage.

The error estimate is derived, not published: b_hat = (0, 1) of order 1, which uses only the slope
at the end. The published estimates are divided differences over several steps. The continuous
extension k1 (theta - theta^2/2) + k2 theta^2/2 is the only quadratic one of order 2. It is
continuously differentiable.
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

TRAPEZOID = RungeKutta(
    name="Trapezoid",
    order=2,
    reference="Hairer & Wanner II, sec. IV.5: Lobatto IIIA; error by the slope at the end (derived)",
    c=(0, 1),
    a=((), (F(1, 2), F(1, 2))),
    b=(F(1, 2), F(1, 2)),
    b_err=(F(1, 2), F(-1, 2)),
    embedded_order=1,
    dense=((1, F(-1, 2)), (0, F(1, 2))),
    dense_order=2,
)
