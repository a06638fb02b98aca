"""SciML's methods: those with a twin of the same name in the torch engine, and those that only
Julia has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from ...core.options import Options
from ...core.step_control import Controller
from ...core.stop_conditions import Limits
from ...core.vector_field import VectorField
from ...methods import registry
from ...methods.base import Method
from .runtime import JuliaValue
from .setup import versions


class Foreign(NamedTuple):
    """A method that only Julia has. nearest: the nearest method of the torch engine."""

    order: int
    implicit: bool
    nearest: str
    reference: str


_VERNER = "Verner, Numer. Algorithms 53 (2010) 383-396"
_KENNEDY = "Kennedy & Carpenter, Appl. Numer. Math. 44 (2003) 139-181"
_RANG = "Rosenbrock-W; Rang & Angermann, BIT 45 (2005) 761-787"
_COX = "exponential, steps of one size; Cox & Matthews, J. Comput. Phys. 176 (2002) 430-455"
ONLY = {
    "Rodas4P": Foreign(4, True, "Rodas4", "Steinebach, preprint 1741, TH Darmstadt (1995)"),
    "Rodas4P2": Foreign(4, True, "Rodas4", "Steinebach, Progress in DAEs II (2020) 165-184"),
    "Rodas5": Foreign(5, True, "Rodas5P", "Di Marzo, RODAS5(4), Univ. Geneva (1993)"),
    "Rodas6P": Foreign(6, True, "Rodas5P", "Steinebach, arXiv:2511.21252 (2025)"),
    "Rodas23W": Foreign(
        2, True, "Rosenbrock23", "Rosenbrock-W; Steinebach, Proc. JuliaCon Conf. 6 (2024)"
    ),
    "Rodas4PW": Foreign(4, True, "Rodas4", "Rosenbrock-W; Steinebach, in preparation (2026)"),
    "ROS34PW2": Foreign(3, True, "Rodas3P", _RANG),
    "ROS34PW3": Foreign(4, True, "Rodas4", _RANG),
    "ROS34PRw": Foreign(
        3, True, "Rodas3P", "Rosenbrock-W; Rang, J. Comput. Appl. Math. 286 (2015) 128-144"
    ),
    "ROK4a": Foreign(
        4,
        True,
        "Rodas4",
        "Rosenbrock-W; Tranquilli & Sandu, SIAM J. Sci. Comput. 36 (2014) A1313-A1338",
    ),
    "KenCarp3": Foreign(3, True, "Kvaerno3", _KENNEDY),
    "KenCarp5": Foreign(5, True, "Kvaerno5", _KENNEDY),
    "KenCarp58": Foreign(
        5, True, "Kvaerno5", "Kennedy & Carpenter, Appl. Numer. Math. 136 (2019) 183-205"
    ),
    "Kvaerno4": Foreign(4, True, "KenCarp4", "Kvaerno, BIT 44 (2004) 489-502"),
    "ETDRK2": Foreign(2, True, "Rosenbrock23", _COX),
    "ETDRK3": Foreign(3, True, "Rodas3P", _COX),
    "ETDRK4": Foreign(4, True, "Rodas4", _COX),
    "CVODE_BDF": Foreign(
        5, True, "FBDF", "CVODE of SUNDIALS; Hindmarsh et al., ACM TOMS 31 (2005) 363-396"
    ),
    "ARKODE": Foreign(
        4,
        True,
        "KenCarp4",
        "ARKODE of SUNDIALS, ESDIRK436L2SA; Reynolds et al., ACM TOMS 49 (2023) 19",
    ),
    "Vern6": Foreign(6, False, "Vern7", _VERNER),
    "Vern8": Foreign(8, False, "DP8", _VERNER),
    "Vern9": Foreign(9, False, "DP8", _VERNER),
}
# Methods of both engines. SDIRK2 is not among them: SciML's SDIRK2 is another formula, and in
# OrdinaryDiffEqSDIRK 2.7.0 its order is 1 if f depends on t.
SHARED = (
    "FBDF",
    "QNDF",
    "ABDF2",
    "Rosenbrock23",
    "Rodas3P",
    "Rodas4",
    "Rodas5P",
    "ImplicitEuler",
    "ImplicitMidpoint",
    "Trapezoid",
    "TRBDF2",
    "Kvaerno3",
    "Kvaerno5",
    "KenCarp4",
    "KenCarp47",
    "RadauIIA3",
    "RadauIIA5",
    "RadauIIA9",
    "Tsit5",
    "Vern7",
)
_NAMES = {name.lower(): name for name in (*SHARED, *ONLY)}
_PAIR = re.compile(r"auto(\w+?)(?:\((\w+)(?:\(\))?\))?")
# Methods that solve M y' = f correctly in SciML. SciML's ABDF2 accepts a mass matrix, but its error
# is 1e-2. Pairs accept none.
_MASS = ("FBDF", "QNDF", "Rosenbrock", "Rodas", "Radau", "ROS34", "ROK")
# Implicit methods that never ask for df/dt: backward differentiation and Runge-Kutta formulas.
_NO_TIME_DERIVATIVE = (
    "FBDF",
    "QNDF",
    "ABDF2",
    "Implicit",
    "Trapezoid",
    "TRBDF2",
    "Kvaerno",
    "KenCarp",
    "Radau",
    "CVODE",
    "ARKODE",
)
DEFAULT = Controller()
# Explicit methods from which SciML's AutoSwitch can switch.
_SWITCHING = ("Tsit5", "Vern6", "Vern7", "Vern8", "Vern9")


@dataclass(frozen=True, repr=False)
class JuliaMethod(Method):
    """A method of SciML.

    stiff: whether it is implicit. algorithm: the Julia object if the user passed one (diffeqpy),
    None for a method by name. jacobian: 'dense', 'sparse', 'krylov' or a structure.
    """

    name: str
    order: int
    reference: str
    stiff: bool = True
    algorithm: JuliaValue | None = None
    jacobian: object = "dense"
    family = "SciML only"

    @property
    def implicit(self) -> bool:  # type: ignore[override]
        return self.stiff

    @property
    def option(self) -> str | None:
        """The option of `pynode julia install` that adds the package of this method; None for
        those that PyNODE always has."""
        return versions.option_of(self.name)

    @property
    def sundials(self) -> bool:
        """Whether the method is C code of Sundials. It takes only float64. It takes no mass matrix
        and no fixed step, and cannot try a step again."""
        return self.option == "sundials"

    @property
    def exponential(self) -> bool:
        """Whether the method applies functions of the Jacobian to vectors. It has steps of one size
        and needs the matrix, but solves no linear systems."""
        return self.option == "exponential"

    @property
    def takes_mass(self) -> bool:  # type: ignore[override]
        return self.name.startswith(_MASS)

    @property
    def structures(self) -> tuple[str, ...]:  # type: ignore[override]
        if not self.stiff:
            return ("dense",)
        if self.exponential:
            return ("dense", "sparse")
        return ("dense", "sparse", "krylov")

    @property
    def asks_time_derivative(self) -> bool:
        """Whether the method may ask for df/dt: Rosenbrock and exponential methods do, and what we
        do not know."""
        if self.name.startswith("Auto"):
            return True
        return self.algorithm is not None or not self.name.startswith(_NO_TIME_DERIVATIVE)

    @property
    def one_atol(self) -> bool:
        """Whether SciML takes only one atol for all components."""
        return "Radau" in self.name

    @property
    def degree(self) -> int:
        """Degree of the polynomials that represent the dense output. It is at least the degree of
        SciML's interpolant."""
        return max(4, self.order + 1)

    def check_dtype(self, dtype: torch.dtype) -> None:
        """Raise TypeError unless Julia's solvers take this dtype."""
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"Julia's solvers take float32 and float64, and y0 is {dtype}: pass y0.float() and"
                " a module in float32, module.float(), or backend='torch'"
            )

    def fixed(self) -> JuliaMethod:
        return self

    def check(self, field: VectorField, options: Options, limits: Limits | None) -> None:
        """Raise ValueError, with the remedy, if SciML cannot combine this method with the
        options."""
        bounded = limits is not None and (limits.mask is not None or limits.domain is not None)
        if field.mass is None:
            mass = None
        else:
            mass = field.mass.matrix
        if (
            self.name == "Rosenbrock23"
            and mass is not None
            and bool((mass != mass.diag().diag()).any())
        ):
            raise ValueError(
                "Rosenbrock23 of Julia takes diagonal mass matrices alone: choose Rodas5P, or"
                " backend='torch'"
            )
        if options.step_size is None and (self.exponential or self.name == "ImplicitMidpoint"):
            adaptive = "Trapezoid" if self.name == "ImplicitMidpoint" else nearest(self.name)
            raise ValueError(
                f"{self.name} of Julia has no error control: pass step_size, or choose {adaptive}"
            )
        if bounded and options.step_size is not None:
            raise ValueError(
                "Julia cannot try a step of a fixed size again: leave out step_size, or"
                " nonnegative and domain"
            )
        if not self.sundials:
            return
        if self.name == "CVODE_BDF":
            remedy = "choose FBDF, which has the same formulas in Julia"
        else:
            remedy = f"choose {nearest(self.name)}"
        if field.dtype != torch.float64:
            raise ValueError(f"{self.name} computes in float64: pass y0.double(), or {remedy}")
        if options.step_size is not None:
            raise ValueError(
                f"{self.name} has no steps of a fixed size: leave out step_size, or {remedy}"
            )
        if bounded:
            raise ValueError(
                f"{self.name} cannot try a step again: leave out nonnegative and domain, or"
                f" {remedy}"
            )


def names() -> list[str]:
    """The names of all methods that backend='julia' takes, without the pairs."""
    return [*SHARED, *ONLY]


def is_object(method: object) -> bool:
    """Whether a method is an algorithm object of diffeqpy or juliacall."""
    return type(method).__module__.split(".")[0] == "juliacall"


def get(name: str | Method | JuliaValue) -> JuliaMethod:
    """The method with this name, or the method that wraps this Julia algorithm object. Raises
    ValueError if Julia has no method of this name."""
    if isinstance(name, JuliaMethod):
        return name
    if is_object(name):
        return _of_object(name)
    if isinstance(name, type) and issubclass(name, Method):
        name = name()
    if isinstance(name, Method):
        _check_options(name)
        return replace(get(name.name), jacobian=name.jacobian)
    if not isinstance(name, str):
        raise TypeError(
            "method must be a name such as 'fbdf' or an algorithm of diffeqpy, not"
            f" {type(name).__name__}"
        )
    key = registry.ALIASES.get(name.lower(), name.lower())
    if key in _NAMES:
        return _known(_NAMES[key])
    pair = _PAIR.fullmatch(key.replace(" ", ""))
    if pair and pair[1] in _NAMES and (pair[2] or "rodas5p") in _NAMES:
        explicit = _known(_NAMES[pair[1]])
        stiff = _known(_NAMES[pair[2] or "rodas5p"])
        if explicit.name not in _SWITCHING:
            raise ValueError(
                f"{explicit.name} cannot detect stiffness in Julia: switch from"
                f" {', '.join(_SWITCHING)}"
            )
        if not stiff.implicit or stiff.sundials or stiff.exponential:
            raise ValueError(
                f"{stiff.name} cannot be switched to: take a stiff method such as Rodas5P"
            )
        return JuliaMethod(f"Auto{explicit.name}({stiff.name}())", explicit.order, stiff.reference)
    raise ValueError(
        f"SciML has no method {name!r} here: choose one of {', '.join(names())}, or use"
        " backend='torch'"
    )


def _check_options(method: Method) -> None:
    """ValueError for options of the torch engine's methods that SciML's have not."""
    for part in (method, *(getattr(method, name, None) for name in ("explicit", "stiff"))):
        if getattr(part, "controller", DEFAULT) != DEFAULT:
            raise ValueError(
                "SciML's methods have their own step-size controllers: leave out controller with"
                " backend='julia'"
            )
        if getattr(part, "compile", False):
            raise ValueError(
                "compile=True is for the torch engine: leave out compile, or backend='julia'"
            )


def _known(name: str) -> JuliaMethod:
    if name in ONLY:
        own = ONLY[name]
        return JuliaMethod(name, own.order, own.reference, own.implicit)
    twin = registry.get(name)
    return JuliaMethod(name, twin.order, f"DifferentialEquations.jl, {name}", twin.implicit)


def _of_object(algorithm: JuliaValue) -> JuliaMethod:
    text = str(algorithm)
    named = re.match(r"[\w.]*?(\w+)[({]", text + "(")
    if named:
        name = named[1]
    else:
        name = text
    if name.lower() in _NAMES:
        known = _known(name)
    else:
        known = None
    if known:
        order = known.order
        stiff = known.stiff
    else:
        order = 5
        stiff = True
    return JuliaMethod(name, order, text, stiff, algorithm=algorithm)


def nearest(name: str | JuliaValue) -> str | None:
    """The method of the torch engine that is nearest to a method of Julia; None if Julia does not
    know the name."""
    if is_object(name):
        name = _of_object(name).name
    if not isinstance(name, str):
        return None
    known = _NAMES.get(name.lower())
    if known in ONLY:
        return ONLY[known].nearest
    return known
