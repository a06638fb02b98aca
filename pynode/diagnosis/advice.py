"""The recommendation: method, tolerances, jumps and adjoint, with the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..adjoints.selection import choose as choose_adjoint
from ..core.formatting import duration, number
from ..core.vector_field import VectorField
from ..methods import registry
from ..methods.base import Method
from .costs import Costs
from .discontinuities import Jump
from .race import winner
from .scales import Scales

if TYPE_CHECKING:
    import torch

    from .diagnosis import Diagnosis

MOST_JUMPS = 50  # the recommendation lists at most so many times of jumps
HOPELESS = 30  # e-folds of error growth, above which a solve backwards in time is useless


@dataclass(frozen=True)
class Advice:
    """The recommended arguments of ``solve``.

    method: its name.
    structure: of the Jacobian.
    atol: a float, or a tuple of n.
    jumps: times for solve(jumps=...).
    adjoint: how gradients are computed.
    reasons: sentences.
    backend: the engine that was examined: 'torch' or 'native'.
    """

    method: str
    structure: str
    rtol: float
    atol: float | tuple[float, ...]
    jumps: tuple[float, ...]
    adjoint: str
    reasons: tuple[str, ...]
    backend: str = "torch"

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``solve``."""
        method: Any = self.method.lower()
        if self.structure != "dense":
            method = registry.get(self.method, jacobian=self.structure)
        given: dict[str, Any] = {"method": method, "rtol": self.rtol, "atol": self.atol}
        if self.jumps:
            given["jumps"] = list(self.jumps)
        if self.backend != "torch":
            given["backend"] = self.backend
        return given

    def call(self) -> str:
        """The call of ``solve`` as a line of Python."""
        shown = {
            name: value
            for name, value in self.arguments().items()
            if not (name == "atol" and _long(value))
        }
        words = [f"{name}={_word(value)}" for name, value in shown.items()]
        if len(shown) < len(self.arguments()):
            words.append("atol=diagnosis.advice.atol")
        return f"pynode.solve(f, y0, t, {', '.join(words)})"


def _word(value):
    if isinstance(value, Method):
        return f"pynode.{value!r}"
    return repr(value)


def _long(value):
    return isinstance(value, tuple) and len(value) > 8


def jump_times(jumps: Sequence[Jump]) -> tuple[float, ...]:
    """The times at which f jumps at a fixed time. Empty if there are too many to list."""
    times = tuple(jump.t for jump in jumps if jump.timed)
    if len(times) <= MOST_JUMPS:
        return times
    return ()


def tolerances(scales: Scales, rtol: float, atol: torch.Tensor) -> float | tuple[float, ...]:
    """A suitable atol: the given one; or one for each component if the given one is too coarse or
    too fine for some."""
    if not scales.bad:
        values = atol.tolist()
        if isinstance(values, float):
            return _decimal(values)
        return tuple(map(_decimal, values))
    return tuple(map(_decimal, scales.proposed.tolist()))


def _decimal(x) -> float:
    """x as the user wrote it, if it went through single precision."""
    return float(f"{x:.7g}")


def untried(costs: Costs, rtol: float) -> str:
    """The method by the estimates, if no method was tried."""
    if not costs.stiff:
        if rtol < 1e-5:
            return "Vern7"
        return "Tsit5"
    if rtol < 1e-7:
        return "RadauIIA9"
    return "QNDF"


def advise(field: VectorField, finding: Diagnosis, structures: Sequence[str]) -> Advice:
    """The recommendation from a Diagnosis that has none yet."""
    costs = finding.costs
    reasons = []
    best = winner(finding.trials, "unstable" in finding.labels)
    if best is not None:
        method = best.method
        structure = best.structure
        others = [trial for trial in finding.trials if trial is not best]
        compared = ", ".join(map(str, others[:4]))
        reasons.append(
            f"{method}: {duration(best.seconds)} when tried here"
            + (f", compared with {compared}." if compared else ".")
            + (
                f" It ended {number(best.difference)} tolerances from the reference solve."
                if "unstable" not in finding.labels
                else ""
            )
        )
        if others and others[0].finished and others[0].seconds < best.seconds:
            reasons.append(
                f"{others[0].method} was faster, but ended {number(others[0].difference)}"
                " tolerances from it."
            )
    else:
        method = untried(costs, finding.rtol)
        structure = structures[0]
        if finding.trials:
            why = "none of the methods tried reached the end"
        else:
            why = "nothing was tried"
        reasons.append(f"{method}: by the estimates, because {why}.")
    implicit = registry.get(method).implicit
    if not implicit:
        structure = "dense"
    reasons += _remarks(finding, implicit)
    _, why = choose_adjoint(field, registry.get(method))
    growth = finding.spectrum.integral(finding.spectrum.decay())
    if growth > HOPELESS:
        why += (
            f"; BacksolveAdjoint would amplify its errors by up to e^{number(growth)} on the way"
            " back"
        )
    reasons.append(f"Adjoint: {why}.")
    return Advice(
        method,
        structure,
        finding.rtol,
        tolerances(finding.scales, finding.rtol, finding.atol),
        jump_times(finding.jumps),
        "discrete",
        tuple(reasons),
        finding.backend,
    )


def _remarks(finding, implicit) -> list:
    """Sentences about the labels."""
    labels = finding.labels
    remarks = []
    costs = finding.costs
    if "stiff" in labels and implicit:
        remarks.append(
            f"Stiff: an explicit method takes {number(costs.severity)} times the steps that"
            " accuracy needs."
        )
    if "stiff" in labels and not implicit:
        remarks.append("Stiff, but not so much that Jacobians pay.")
    if "oscillatory" in labels and finding.modes >= finding.turns / 2:
        remarks.append(
            "Oscillations near the imaginary axis: BDF above order 2 is not stable there;"
            " Rosenbrock, Radau and KenCarp methods are, and explicit ones where their steps"
            " resolve the oscillation."
        )
    jumps = [jump for jump in finding.jumps if not jump.slope_discontinuity]
    if any(jump.timed for jump in jumps):
        remarks.append(
            "Pass the times at which f jumps as jumps=, so that no step is spent on finding them."
        )
    if any(not jump.timed for jump in jumps):
        remarks.append(
            "Where the state makes f jump, use an Event on the switching condition, with a reset"
            " that changes the branch: it ends the step there."
        )
    if "unstable" in labels:
        remarks.append(
            f"Differences grow by e^{number(finding.lyapunov_growth)} over the span, and gradients"
            " with them: fit over short pieces (multiple shooting), and judge statistics instead of"
            " states."
        )
    if finding.failure is not None:
        remarks.append(finding.failure.remedy)
    if finding.scales.below_atol:
        remarks.append(
            "Give the components that atol hides their own atol, as above: below it they are noise."
        )
    return remarks
