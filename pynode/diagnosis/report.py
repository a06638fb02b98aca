"""The report of a diagnosis as text."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from ..core.formatting import duration, number
from ..core.text_table import WIDTH

if TYPE_CHECKING:
    from .diagnosis import Diagnosis

MARGIN = 14
FEW = 6  # at most so many jumps are listed


def text(diagnosis: Diagnosis) -> str:
    """All findings, one paragraph each, and the recommendation."""
    n = diagnosis.layout.size
    reference = diagnosis.reference
    nature = ", ".join(sorted(diagnosis.labels)) or "no difficulties"
    engine = ""
    if diagnosis.backend == "native":
        engine = " in native code"
    lines = [
        (
            f"{diagnosis.name}: {n} state{'s' * (n != 1)} from t = {reference.times[0]:.6g} to"
            f" {diagnosis.end:.6g} at rtol {diagnosis.rtol:g}{engine}:"
            f" {nature.upper()}"
        ),
        "",
    ]
    parts = {
        "reference": _reference_solve,
        "time scales": _rates,
        "cost": _costs,
        "oscillation": _oscillation,
        "neighbours": _neighbours,
        "jumps": _jumps,
        "scales": _scales,
        "step limits": _limits,
    }
    for title, words in parts.items():
        lines += _paragraph(title, words(diagnosis))
    if diagnosis.advice is not None:
        lines += ["", *_paragraph("recommended", diagnosis.advice.call())]
        for reason in diagnosis.advice.reasons:
            lines += _paragraph("", reason)
    return "\n".join(lines)


def _paragraph(title, words) -> list:
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=f"{title:<{MARGIN}}",
        subsequent_indent=" " * MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _reference_solve(diagnosis) -> str:
    reference = diagnosis.reference
    taken = len(reference.sizes)
    refused = len(reference.rejected)
    steps = f"{reference.method.name} took {taken} steps and refused {refused}"
    if reference.sizes:
        steps += f", of {number(min(reference.sizes))} to {number(max(reference.sizes))}"
    if reference.status.success:
        return steps + ", to the end."
    return (
        f"{steps}, and came to t = {reference.reached:.6g}: {reference.status.sentence}."
        f" {diagnosis.failure.finding} The rest of this report is about the part that was reached."
    )


def _rates(diagnosis) -> str:
    spectrum = diagnosis.spectrum
    span = diagnosis.reference.span
    fast = spectrum.decay()
    slow = spectrum.slowest()
    grow = spectrum.growth()
    if not len(fast):
        return "The Jacobian is not finite at any time."
    words = []
    if fast.max() > 0:
        scale = number(1 / fast.max())
        words.append(
            f"fastest decay at a rate of {number(fast.max())} (time scale {scale}, the span is"
            f" {number(span)})"
        )
    least = math.inf
    if np.isfinite(slow).any():
        least = np.min(slow, where=slow < 1e300, initial=math.inf)
    if math.isfinite(least):
        words.append(f"slowest at {number(least)}")
    if math.isfinite(spectrum.ratio()):
        words.append(f"stiffness ratio up to {number(spectrum.ratio())}")
    words.append(f"fastest growth at {number(grow.max())}" if grow.max() > 0 else "nothing grows")
    kind = "all eigenvalues"
    if not spectrum.complete:
        kind = "extreme eigenvalues, by Arnoldi's method,"
    sentence = "; ".join(words)
    return f"{sentence[0].upper()}{sentence[1:]} ({kind} at {len(spectrum.times)} times)."


def _costs(diagnosis) -> str:
    costs = diagnosis.costs
    if costs.stiff:
        verdict = "stiff"
    else:
        verdict = "not stiff"
    return (
        f"An explicit method (Tsit5) needs about {number(costs.stability)} steps for stability and"
        f" {number(costs.accuracy)} for accuracy, {number(costs.severity)} times those for accuracy"
        f" in all: {verdict}. By these numbers it takes {duration(costs.explicit)}, {costs.method}"
        f" {duration(costs.implicit)}; one evaluation of f takes {duration(costs.evaluation)}."
    )


def _oscillation(diagnosis) -> str:
    turns, component = diagnosis.turning
    frequency = diagnosis.spectrum.frequency().max(initial=0.0)
    words = []
    if diagnosis.modes >= 1:
        words.append(
            f"Modes near the imaginary axis, of up to {number(frequency)} radians a unit of t, go"
            f" through {number(diagnosis.modes)} periods"
        )
    if turns >= 4:
        words.append(
            f"{diagnosis.called(component)} turns {turns} times, about {number(turns / 2)} periods"
        )
    if words:
        return "; ".join(words) + "."
    return "None."


def _neighbours(diagnosis) -> str:
    if diagnosis.lyapunov_growth is None:
        return (
            "Not computed for this problem; the eigenvalues allow growth by"
            f" e^{number(_growth(diagnosis))} at most."
        )
    if diagnosis.lyapunov_growth > 1:
        return (
            f"A small difference grows by about e^{number(diagnosis.lyapunov_growth)} over the"
            " span, and so do gradients."
        )
    return f"Nearby solutions stay close (e^{number(diagnosis.lyapunov_growth)})."


def _growth(diagnosis) -> float:
    return diagnosis.spectrum.integral(diagnosis.spectrum.growth())


def _jumps(diagnosis) -> str:
    steps, kinks = (
        [jump for jump in diagnosis.jumps if jump.slope_discontinuity is kind]
        for kind in (False, True)
    )
    if not diagnosis.jumps:
        if diagnosis.reference.rejected:
            return f"None found ({len(diagnosis.reference.rejected)} refused steps were examined)."
        return "None."
    words = []
    for jump in steps[:FEW]:
        if jump.timed:
            cause = "at a fixed time"
        else:
            cause = "because of the state"
        parts = ", ".join(diagnosis.called(i) for i in jump.components)
        words.append(f"f of {parts} jumps at t = {jump.t:.10g}, {cause}")
    if len(steps) > FEW:
        words.append(f"{len(steps) - FEW} more jumps")
    if kinks:
        words.append(
            f"{len(kinks)} kink{'s' * (len(kinks) > 1)}, at t = "
            + ", ".join(f"{j.t:.5g}" for j in kinks[:FEW])
        )
    return "; ".join(words) + "."


def _scales(diagnosis) -> str:
    scales = diagnosis.scales
    words = [f"Largest values of the components lie {number(scales.decades())} decades apart"]
    if scales.below_atol:
        sizes = ", ".join(
            f"{diagnosis.called(i)} (largest {number(scales.largest[i])}, atol"
            f" {number(scales.atol[i])}, better {number(scales.proposed[i])})"
            for i in scales.below_atol[:FEW]
        )
        further = len(scales.below_atol) - FEW
        if further > 0:
            more = f" and {further} more"
        else:
            more = ""
        words.append(f"hidden by atol, although f depends on them (below 10 atol): {sizes}{more}")
    return "; ".join(words) + "."


def _limits(diagnosis) -> str:
    shares = diagnosis.reference.dominating()[:3]
    words = ", ".join(f"{diagnosis.called(i)} in {100 * share:.0f} %" for i, share in shares)
    if words:
        return f"The error of a step is largest in {words} of the steps."
    return "No step could be measured."
