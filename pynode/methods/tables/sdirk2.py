"""The L-stable SDIRK method of order 2 of Alexander, SIAM J. Numer. Anal. 14 (1977) 1006-1021.

gamma = 1 - sqrt(2)/2, stiffly accurate. The embedded weights (1 - alpha, alpha), alpha = 2 - 5
sqrt(2)/4, of order 1 are those of Ellsiepen's SDIRK2 (1999), as in the Drake toolbox. The
continuous extension is derived: the only one of order 2 in two stages, with b_2(theta) = (theta^2/2
- gamma theta)/(1 - gamma) and b_1 = theta - b_2.
"""

from math import sqrt

from ..tableau import RungeKutta

_S = sqrt(2.0)
_GAMMA = 1 - _S / 2

SDIRK2 = RungeKutta(
    name="SDIRK2",
    order=2,
    reference="Alexander, SIAM J. Numer. Anal. 14 (1977) 1006-1021; embedded weights of Ellsiepen (1999)",
    c=(_GAMMA, 1),
    a=((_GAMMA,), (_S / 2, _GAMMA)),
    b=(_S / 2, _GAMMA),
    b_err=(1 - 3 * _S / 4, 3 * _S / 4 - 1),
    embedded_order=1,
    dense=((_S, -_S / 2), (1 - _S, _S / 2)),
    dense_order=2,
)
