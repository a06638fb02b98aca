"""The 3(2) pair of Bogacki & Shampine, Appl. Math. Lett. 2 (1989) 321-325.

The continuous extension is cubic Hermite interpolation, of order 3 (Shampine & Reichelt, SIAM J.
Sci. Comput. 18 (1997) 1-22, as in ode23).
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

BS3 = RungeKutta(
    name="BS3",
    order=3,
    reference="Bogacki & Shampine, Appl. Math. Lett. 2 (1989) 321-325",
    c=(0, F(1, 2), F(3, 4), 1),
    a=((), (F(1, 2),), (0, F(3, 4)), (F(2, 9), F(1, 3), F(4, 9))),
    b=(F(2, 9), F(1, 3), F(4, 9), 0),
    b_err=(F(-5, 72), F(1, 12), F(1, 9), F(-1, 8)),
    embedded_order=2,
    dense=((1, F(-4, 3), F(5, 9)), (0, 1, F(-2, 3)), (0, F(4, 3), F(-8, 9)), (0, -1, 1)),
    dense_order=3,
)
