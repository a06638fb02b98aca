"""Rosenbrock23: ode23s of Shampine & Reichelt, SIAM J. Sci. Comput. 18 (1997) 1-22.

The paper gives, with d = 1/(2 + sqrt 2) and W = I - h d J, W k1 = f0 + h d T, W (k2 - k1) = f1 - k1
and W k3 = f2 - (6 + sqrt 2) (k2 - f1) - 2 (k1 - f0) + h d T; y1 = y + h k2, error h/6 (k1 - 2 k2 +
k3). The first two equations give k1 - f0 = h d (J k1 + T) and k2 - f1 = h d J (k2 - k1). So Gamma
has the rows (d), (-d, d) and ((4 + sqrt 2) d, -(6 + sqrt 2) d, d), and alpha has (), (1/2), (0, 1).
The numbers below follow from u = h Gamma k.

The third stage serves only the error estimate: b_hat has order 3 if J is exact. The continuous
extension of order 2 is that of the paper, theta (1 - theta)/(1 - 2 d) k1 + theta (theta - 2 d)/(1 -
2 d) k2.
"""

from math import sqrt

from ..tableau import Rosenbrock

_S = sqrt(2.0)

ROSENBROCK23 = Rosenbrock(
    name="Rosenbrock23",
    order=2,
    reference="Shampine & Reichelt, SIAM J. Sci. Comput. 18 (1997) 1-22: ode23s",
    gamma=1 - _S / 2,
    c=(0, 0.5, 1),
    a=((), (1 + _S / 2,), (2 + _S, 2 + _S)),
    C=((), (-2 - _S,), (-4 - 2 * _S, -14 - 8 * _S)),
    d=(1 - _S / 2, 0, _S / 2 - 1),
    b=(2 + _S, 2 + _S, 0),
    b_err=(-(2 + _S) / 6, -(5 + 3 * _S) / 3, -(2 + _S) / 6),
    embedded_order=3,
    dense=((2 + _S,), (-2 - 2 * _S, 4 + 3 * _S), ()),
    dense_order=2,
)
