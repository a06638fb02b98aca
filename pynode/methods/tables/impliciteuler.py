"""The implicit Euler method (Hairer & Wanner II, sec. IV.3), with f(t0, y0) as an explicit first
stage.

The error estimate is derived, not published: h/2 (k2 - k1), the step minus the trapezoidal
quadrature of its two slopes. The comparison therefore has order 2. k1 is the last slope of the
previous step. The continuous extension is linear. It does not use k1, so it does not overshoot if
y0 lies off a stiff manifold.
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

IMPLICITEULER = RungeKutta(
    name="ImplicitEuler",
    order=1,
    reference="Hairer & Wanner II, sec. IV.3; error by the trapezoidal quadrature (derived)",
    c=(0, 1),
    a=((), (0, 1)),
    b=(0, 1),
    b_err=(F(-1, 2), F(1, 2)),
    embedded_order=2,
    dense=((), (1,)),
    dense_order=1,
)
