"""The strong-stability-preserving method of order 3 of Shu & Osher, J. Comput. Phys. 77 (1988)
439-471.

The embedded weights of order 2 are those of Fekete, Conde & Shadid, "Embedded pairs for optimal
explicit strong stability preserving Runge-Kutta methods", J. Comput. Appl. Math. 412 (2022) 114325.
The continuous extension is derived: the quadratic one of order 2, theta k1 + theta^2 (sum_i b_i k_i
- k1).
"""

from fractions import Fraction as F

from ..tableau import RungeKutta

SSPRK33 = RungeKutta(
    name="SSPRK33",
    order=3,
    reference="Shu & Osher, J. Comput. Phys. 77 (1988) 439-471; error of Fekete, Conde & Shadid (2022)",
    c=(0, 1, F(1, 2)),
    a=((), (1,), (F(1, 4), F(1, 4))),
    b=(F(1, 6), F(1, 6), F(2, 3)),
    b_err=(F(1, 6) - F("0.291485418878409"), F(1, 6) - F("0.291485418878409"), F(2, 3) - F("0.417029162243181")),
    embedded_order=2,
    dense=((1, F(-5, 6)), (0, F(1, 6)), (0, F(2, 3))),
    dense_order=2,
)
