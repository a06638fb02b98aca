"""TR-BDF2 of Bank et al., IEEE Trans. CAD 4 (1985) 436-451, as the pair of Hosea & Shampine.

Hosea & Shampine, Appl. Numer. Math. 20 (1996) 21-37: gamma = 2 - sqrt 2, d = gamma/2, w =
sqrt(2)/4, stages at 0, gamma and 1, b = (w, w, d), and b_hat = ((1 - w)/3, (3 w + 1)/3, d/3) of
order 3, higher than the method's order. The continuous extension of order 2 is that of ode23tb
(MATLAB ODE suite): the parabola through the values at 0, gamma and 1. It stays bounded if y0 lies
off a stiff manifold.
"""

from math import sqrt

from ..tableau import RungeKutta

_S = sqrt(2.0)
_D = 1 - _S / 2
_W = _S / 4

TRBDF2 = RungeKutta(
    name="TRBDF2",
    order=2,
    reference="Hosea & Shampine, Appl. Numer. Math. 20 (1996) 21-37",
    c=(0, 2 - _S, 1),
    a=((), (_D, _D), (_W, _W, _D)),
    b=(_W, _W, _D),
    b_err=((4 * _W - 1) / 3, -1 / 3, 2 * _D / 3),
    embedded_order=3,
    dense=((_S / 2, -_S / 4), (_S / 2, -_S / 4), (1 - _S, _S / 2)),
    dense_order=2,
)
