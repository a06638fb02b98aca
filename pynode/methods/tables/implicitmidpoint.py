"""The implicit midpoint rule (Gauss of order 2, Hairer & Wanner II, sec. IV.5), with f(t0, y0) as
an explicit stage.

The second stage is the method itself. The first stage serves only the error estimate and the
continuous extension, which are derived, not published. b_hat = (1, 0) has order 1; an estimate of
order 2 from f(t0, y0), the midpoint and f(t1, y1) would vanish on every linear problem. The
extension k1 (theta - theta^2) + k2 theta^2 is the only quadratic one of order 2.
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

IMPLICITMIDPOINT = RungeKutta(
    name="ImplicitMidpoint",
    order=2,
    reference="Hairer & Wanner II, sec. IV.5: Gauss; error by Euler's method (derived)",
    c=(0, F(1, 2)),
    a=((), (0, F(1, 2))),
    b=(0, 1),
    b_err=(-1, 1),
    embedded_order=1,
    dense=((1, -1), (0, 1)),
    dense_order=2,
)
