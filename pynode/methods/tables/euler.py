"""Euler's explicit method (Hairer, Norsett & Wanner I, sec. I.7), with f(t1, y1) as a second stage.

The error estimate is h/2 (k2 - k1): the step minus the trapezoidal rule (Heun). That rule has order
2, so the comparison is the more accurate result. The continuous extension is linear.
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

EULER = RungeKutta(
    name="Euler",
    order=1,
    reference="Hairer, Norsett & Wanner I, sec. I.7; error by Heun's method (FSAL stage)",
    c=(0, 1),
    a=((), (1,)),
    b=(1, 0),
    b_err=(F(1, 2), F(-1, 2)),
    embedded_order=2,
    dense=((1,), ()),
    dense_order=1,
)
