"""The classical Runge-Kutta method of Kutta 1901 (Hairer, Norsett & Wanner I, table II.1.2), plus
f(t1, y1).

Kutta gave no error estimate. Here b_hat = (1/6, 1/3, 1/3, 1/6 - w, w) with w = 1/6; it has order 3
for every w. The continuous extension is cubic Hermite interpolation (Hairer I, sec. II.6). Its
order is 3, like that of the only extension in four stages, and unlike that one it is continuously
differentiable.
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

RK4 = RungeKutta(
    name="RK4",
    order=4,
    reference="Kutta 1901; Hairer, Norsett & Wanner I, table II.1.2 and sec. II.6",
    c=(0, F(1, 2), F(1, 2), 1, 1),
    a=((), (F(1, 2),), (0, F(1, 2)), (0, 0, 1), (F(1, 6), F(1, 3), F(1, 3), F(1, 6))),
    b=(F(1, 6), F(1, 3), F(1, 3), F(1, 6), 0),
    b_err=(0, 0, 0, F(1, 6), F(-1, 6)),
    embedded_order=3,
    dense=((1, F(-3, 2), F(2, 3)), (0, 1, F(-2, 3)), (0, 1, F(-2, 3)), (0, F(1, 2), F(-1, 3)), (0, -1, 1)),
    dense_order=3,
)
