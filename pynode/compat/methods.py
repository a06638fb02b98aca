"""torchdiffeq's names of methods, and the methods that run for them.

The formulas of bosh3, dopri5, adaptive_heun, tsit5, euler, midpoint and heun2 are those of BS3,
DP5, Heun, Tsit5, Euler, Midpoint and Heun. rk4 is Kutta's rule of three eighths, and fehlberg2
Fehlberg's pair of orders 1 and 2; they are tableaus below, because SciML has no name for them. DP8
runs for dopri8: it is the other pair of order 8 by the same authors (of Hairer's code DOP853). The
step-size control is pynode's.
"""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

from ..methods import registry
from ..methods.base import Method
from ..methods.collocation import GaussLegendre
from ..methods.explicit import ExplicitRungeKutta
from ..methods.radau import Radau
from ..methods.tableau import RungeKutta

# Without the stage at the end of the step that pynode's Euler has for its dense output.
EULER = RungeKutta(
    name="Euler",
    order=1,
    reference="Euler 1768; Hairer, Norsett & Wanner I, sec. I.7",
    c=(0,),
    a=((),),
    b=(1,),
    b_err=(0,),
    embedded_order=1,
    dense=((1,),),
    dense_order=1,
)
RK38 = RungeKutta(
    name="RK38",
    order=4,
    reference="Kutta 1901; Hairer, Norsett & Wanner I, table II.1.2",
    c=(0, F(1, 3), F(2, 3), 1),
    a=((), (F(1, 3),), (F(-1, 3), 1), (1, -1, 1)),
    b=(F(1, 8), F(3, 8), F(3, 8), F(1, 8)),
    b_err=(0, 0, 0, 0),
    embedded_order=4,
    dense=((F(1, 8),), (F(3, 8),), (F(3, 8),), (F(1, 8),)),
    dense_order=1,
)
HEUN3 = RungeKutta(
    name="Heun3",
    order=3,
    reference="Heun 1900; Hairer, Norsett & Wanner I, table II.1.1",
    c=(0, F(1, 3), F(2, 3)),
    a=((), (F(1, 3),), (0, F(2, 3))),
    b=(F(1, 4), 0, F(3, 4)),
    b_err=(0, 0, 0),
    embedded_order=3,
    dense=((F(1, 4),), (0,), (F(3, 4),)),
    dense_order=1,
)
# The continuous extension is the quadratic one of order 2 whose weights of the last two stages are
# theta^2 b_i.
FEHLBERG2 = RungeKutta(
    name="Fehlberg2",
    order=2,
    reference="Fehlberg, NASA TR R-315 (1969), table II; Hairer, Norsett & Wanner I, sec. II.5",
    c=(0, F(1, 2), 1),
    a=((), (F(1, 2),), (F(1, 256), F(255, 256))),
    b=(F(1, 512), F(255, 256), F(1, 512)),
    b_err=(F(-1, 512), 0, F(1, 512)),
    embedded_order=1,
    dense=((1, F(-511, 512)), (0, F(255, 256)), (0, F(1, 512))),
    dense_order=2,
)

# Collocation without error control, only on a grid.
GAUSS: dict[str, Any] = {
    "gl4": Radau.of(GaussLegendre("GaussLegendre4", 2, "Hairer & Wanner II, table IV.5.1")),
    "gl6": Radau.of(GaussLegendre("GaussLegendre6", 3, "Hairer & Wanner II, table IV.5.2")),
}
# In torchdiffeq's order, then the additions of its releases after 0.2.5.
ADAPTIVE: dict[str, Any] = {
    "dopri8": "dp8",
    "dopri5": "dp5",
    "bosh3": "bs3",
    "fehlberg2": FEHLBERG2,
    "adaptive_heun": "heun",
    "tsit5": "tsit5",
}
FIXED: dict[str, Any] = {
    "euler": EULER,
    "midpoint": "midpoint",
    "heun2": "heun",
    "heun3": HEUN3,
    "rk4": RK38,
    "implicit_euler": "impliciteuler",
    "implicit_midpoint": "implicitmidpoint",
    **GAUSS,
}
ADAMS = {"explicit_adams": False, "implicit_adams": True, "fixed_adams": True}
SCIPY = "scipy_solver"
# With fixed steps in torchdiffeq's later releases; methods with error control here, unless the
# options ask for a grid.
EITHER: dict[str, Any] = {
    "trapezoid": "trapezoid",
    "radauIIA3": "radauiia3",
    "radauIIA5": "radauiia5",
    "sdirk2": "sdirk2",
    "trbdf2": "trbdf2",
}
NAMES = (
    "dopri8",
    "dopri5",
    "bosh3",
    "fehlberg2",
    "adaptive_heun",
    "euler",
    "midpoint",
    "heun2",
    "heun3",
    "rk4",
    "explicit_adams",
    "implicit_adams",
    "fixed_adams",
    SCIPY,
)
LATER = ("tsit5", "implicit_euler", "implicit_midpoint", *GAUSS, *EITHER)


def runner(source: str | RungeKutta | Method) -> Any:
    """The Method for a name of the registry or for a tableau."""
    if isinstance(source, RungeKutta):
        return ExplicitRungeKutta.of(source)
    return registry.get(source)


def unknown(name: str) -> ValueError:
    """The error for a name that neither torchdiffeq nor pynode has."""
    listed = "{" + ", ".join(f'"{x}"' for x in NAMES) + "}"
    return ValueError(
        f'Invalid method "{name}". Must be one of {listed}. Also served: {", ".join(LATER)}, and'
        " every method of pynode "
        f"by name ({', '.join(registry.names())})."
    )
