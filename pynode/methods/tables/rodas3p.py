"""Rodas3P of Steinebach: order 3(2), five stages, stiffly accurate.

Steinebach, "Rosenbrock methods within OrdinaryDiffEq.jl - Overview, recent developments and
applications", Proc. JuliaCon Conf. 6 (2024). The numbers come from OrdinaryDiffEq.jl
(lib/OrdinaryDiffEqRosenbrockTableaus/src/rosenbrock_tableaus.jl). The error estimate is u_5 - u_4.

The published continuous extension of order 3, theta b + theta (1 - theta) (h_1 + theta h_2), is
expanded into powers of theta. The third row h in the source belongs to the related Rodas23W.
"""

from fractions import Fraction as F

from ..tableau import Rosenbrock

RODAS3P = Rosenbrock(
    name="Rodas3P",
    order=3,
    reference="Steinebach, Proc. JuliaCon Conf. 6 (2024)",
    gamma=F(1, 3),
    c=(0, F(4, 9), 0, 1, 1),
    a=((), (F(4, 3),), (), (F(93, 32), F(27, 8), F(13, 32)), (F(93, 32), F(27, 8), F(13, 32))),
    C=(
        (),
        (-4,),
        (F(33, 4), F(27, 4)),
        (F(39, 32), F(-81, 16), F(-63, 32)),
        (F(129, 32), F(-243, 16), F(-129, 32), 6),
    ),
    d=(F(1, 3), F(-1, 9), 1, 0, 0),
    b=(F(93, 32), F(27, 8), F(13, 32), 0, 1),
    b_err=(0, 0, 0, -1, 1),
    embedded_order=2,
    dense=(
        (F(75, 16), F(39, 16), F(-135, 32)),
        (F(81, 8), F(-351, 16), F(243, 16)),
        (F(9, 16), F(-13, 4), F(99, 32)),
        (-6, 15, -9),
        (0, 1),
    ),
    dense_order=3,
)
