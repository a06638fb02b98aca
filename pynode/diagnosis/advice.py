"""The recommendation: method, tolerances, jumps and adjoint, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from ..adjoints.selection import choose as choose_adjoint
from ..core.formatting import duration, number
from ..methods import registry
from .race import winner

MOST_JUMPS = 50  # times of jumps that are worth naming one by one
HOPELESS = 30  # e-folds that a solve backwards in time would amplify its errors by


@dataclass(frozen=True)
class Advice:
    """method: its name; structure: of the Jacobian; rtol; atol: a float, or a tuple of n; jumps:
    times to name in solve(jumps=...); adjoint: how gradients are made; reasons: sentences."""

    method: str
    structure: str
    rtol: float
    atol: object
    jumps: tuple
    adjoint: str
    reasons: tuple

    def arguments(self) -> dict:
        """Keyword arguments of ``solve``."""
        given = {"method": self.method.lower(), "rtol": self.rtol, "atol": self.atol}
        if self.structure != "dense":
            given["structure"] = self.structure
        if self.jumps:
            given["jumps"] = list(self.jumps)
        return given

    def call(self) -> str:
        """The call of ``solve``, as a line of Python."""
        shown = {
            name: value
            for name, value in self.arguments().items()
            if not (name == "atol" and _long(value))
        }
        words = [f"{name}={value!r}" for name, value in shown.items()]
        if len(shown) < len(self.arguments()):
            words.append("atol=diagnosis.advice.atol")
        return f"pynode.solve(f, y0, t, {', '.join(words)})"


def _long(value):
    return isinstance(value, tuple) and len(value) > 8


def jump_times(jumps) -> tuple:
    """Times at which f jumps by the clock, where they are few enough to be named."""
    times = tuple(jump.t for jump in jumps if jump.timed)
    if len(times) <= MOST_JUMPS:
        return times
    return ()


def tolerances(scales, rtol, atol):
    """atol as it suits: the given one, or one a component where that is too coarse or too fine for
    some."""
    if not scales.bad:
        values = atol.tolist()
        if isinstance(values, float):
            return _decimal(values)
        return tuple(map(_decimal, values))
    return tuple(map(_decimal, scales.proposed.tolist()))


def _decimal(x) -> float:
    """As it was written, where it went through single precision."""
    return float(f"{x:.7g}")


def untried(costs, rtol) -> str:
    """The method where nothing was tried, by the estimates."""
    if not costs.stiff:
        if rtol < 1e-5:
            return "Vern7"
        return "Tsit5"
    if rtol < 1e-7:
        return "RadauIIA9"
    return "QNDF"


def advise(field, finding, structures) -> Advice:
    """From what was found. finding: a Diagnosis without its advice."""
    costs = finding.costs
    reasons = []
    best = winner(finding.trials, "unstable" in finding.labels)
    if best is not None:
        method = best.method
        structure = best.structure
        others = [trial for trial in finding.trials if trial is not best]
        beside = ", ".join(map(str, others[:4]))
        reasons.append(
            f"{method}: {duration(best.seconds)} when tried here"
            + (f", beside {beside}." if beside else ".")
            + (
                f" It ended {number(best.difference)} tolerances from the walk."
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
        reasons.append(f"{method}: by the estimates alone, {why}.")
    implicit = registry.get(method).implicit
    if not implicit:
        structure = "dense"
    reasons += _remarks(finding, implicit)
    _, why = choose_adjoint(field, registry.get(method))
    back = finding.spectrum.integral(finding.spectrum.decay())
    if back > HOPELESS:
        why += (
            f"; BacksolveAdjoint would amplify its errors by up to e^{number(back)} on the way back"
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
    )


def _remarks(finding, implicit) -> list:
    """Sentences for the labels."""
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
            "Name the times at which f jumps in jumps=, so that no step is spent on finding them."
        )
    if any(not jump.timed for jump in jumps):
        remarks.append(
            "Where the state makes f jump: let an Event on the switching condition, with a reset"
            " that changes the branch, end the step there."
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
            "Give the components that atol hides an atol of their own, as above: below it they are"
            " noise."
        )
    return remarks
