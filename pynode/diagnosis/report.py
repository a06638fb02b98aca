"""The report of a diagnosis, as lines of text."""

from __future__ import annotations

import math
import textwrap

import numpy as np

WIDTH, MARGIN = 110, 14
FEW = 6  # jumps that are told one by one


def text(found) -> str:
    """All findings, one paragraph each, and the recommendation."""
    n, walk = len(found.names), found.walk
    nature = ", ".join(sorted(found.labels)) or "no difficulties"
    lines = [
        f"{found.name}: {n} state{'s' * (n != 1)} from t = {walk.times[0]:.6g} to {found.end:.6g} at rtol {found.rtol:g}: "
        f"{nature.upper()}",
        "",
    ]
    for title, words in (
        ("walk", _walk(found)), ("time scales", _rates(found)), ("cost", _costs(found)), ("oscillation", _oscillation(found)),
        ("neighbours", _neighbours(found)), ("jumps", _jumps(found)), ("scales", _scales(found)), ("step limits", _limits(found)),
    ):
        lines += _paragraph(title, words)
    if found.advice is not None:
        lines += ["", *_paragraph("recommended", found.advice.call())]
        for reason in found.advice.reasons:
            lines += _paragraph("", reason)
    return "\n".join(lines)


def _paragraph(title, words) -> list:
    return textwrap.wrap(words, WIDTH, initial_indent=f"{title:<{MARGIN}}", subsequent_indent=" " * MARGIN,
                         break_long_words=False, break_on_hyphens=False)


def _walk(found) -> str:
    walk = found.walk
    steps = f"{walk.method.name} took {len(walk.sizes)} steps and refused {len(walk.rejected)}"
    if walk.sizes:
        steps += f", of {min(walk.sizes):.2g} to {max(walk.sizes):.2g}"
    if walk.status.success:
        return steps + ", to the end."
    return f"{steps}, and came to t = {walk.reached:.6g}: {walk.status.sentence}. All below is about this part."


def _rates(found) -> str:
    spectrum, span = found.spectrum, found.walk.span
    fast, slow, grow = spectrum.decay(), spectrum.slowest(), spectrum.growth()
    if not len(fast):
        return "The Jacobian is not finite anywhere on the way."
    words = []
    if fast.max() > 0:
        words.append(f"fastest decay at a rate of {fast.max():.2g} (time scale {1 / fast.max():.2g}, the span is {span:.2g})")
    least = np.min(slow, where=slow < 1e300, initial=math.inf) if np.isfinite(slow).any() else math.inf
    if math.isfinite(least):
        words.append(f"slowest at {least:.2g}")
    if math.isfinite(spectrum.ratio()):
        words.append(f"stiffness ratio up to {spectrum.ratio():.2g}")
    words.append(f"fastest growth at {grow.max():.2g}" if grow.max() > 0 else "nothing grows")
    kind = "all eigenvalues" if spectrum.complete else "extreme eigenvalues, by Arnoldi's method,"
    said = "; ".join(words)
    return f"{said[0].upper()}{said[1:]} ({kind} at {len(spectrum.times)} times)."


def _costs(found) -> str:
    costs = found.costs
    verdict = "stiff" if costs.stiff else "not stiff"
    return (
        f"An explicit method (Tsit5) needs about {costs.stability:.2g} steps for stability and {costs.accuracy:.2g} for accuracy, "
        f"{costs.severity:.2g} times those for accuracy in all: {verdict}. By these numbers it takes {_seconds(costs.explicit)}, "
        f"{costs.method} {_seconds(costs.implicit)}; one evaluation of f takes {_seconds(costs.evaluation)}."
    )


def _oscillation(found) -> str:
    turns, component = found.turning
    frequency = found.spectrum.frequency().max(initial=0.0)
    words = []
    if found.modes >= 1:
        words.append(
            f"Modes near the imaginary axis, of up to {frequency:.2g} radians a unit of t, go through {found.modes:.3g} periods"
        )
    if turns >= 2:
        words.append(f"{found.names[component]} turns {turns} times, about {turns / 2:.3g} periods")
    return "; ".join(words) + "." if words else "None."


def _neighbours(found) -> str:
    if found.parting is None:
        return f"Not followed for this problem; eigenvalues alone allow growth by e^{_growth(found):.2g} at most."
    if found.parting > 1:
        return f"A small difference grows by about e^{found.parting:.2g} over the span, and so do gradients."
    return f"Nearby solutions do not part (e^{found.parting:.2g})."


def _growth(found) -> float:
    return found.spectrum.integral(found.spectrum.growth())


def _jumps(found) -> str:
    steps, kinks = ([jump for jump in found.jumps if jump.kink is kind] for kind in (False, True))
    if not found.jumps:
        return f"None found ({len(found.walk.rejected)} refused steps were looked at)." if found.walk.rejected else "None."
    words = []
    for jump in steps[:FEW]:
        cause = "by the clock" if jump.timed else "by the state"
        parts = ", ".join(found.names[i] for i in jump.components)
        words.append(f"f of {parts} jumps at t = {jump.t:.10g} {cause}")
    if len(steps) > FEW:
        words.append(f"{len(steps) - FEW} more jumps")
    if kinks:
        words.append(f"{len(kinks)} kink{'s' * (len(kinks) > 1)}, at t = " + ", ".join(f"{j.t:.5g}" for j in kinks[:FEW]))
    return "; ".join(words) + "."


def _scales(found) -> str:
    scales, words = found.scales, []
    words.append(f"Largest values of the components lie {scales.decades():.2g} decades apart")
    for kind, wrong in (("drowned: f depends on them, and they stay below 10 atol", scales.drowned),
                        ("overdone: atol asks for more digits than there are", scales.overdone)):
        if wrong:
            sizes = ", ".join(
                f"{found.names[i]} (largest {scales.largest[i]:.2g}, atol {scales.atol[i]:.2g}, better {scales.proposed[i]:.2g})"
                for i in wrong[:FEW]
            )
            words.append(f"{kind}: {sizes}" + (f" and {len(wrong) - FEW} more" if len(wrong) > FEW else ""))
    return "; ".join(words) + "."


def _limits(found) -> str:
    shares = found.walk.dominating()[:3]
    words = ", ".join(f"{found.names[i]} in {100 * share:.0f} %" for i, share in shares)
    return f"The error of a step is largest in {words} of the steps." if words else "No step could be measured."


def _seconds(x) -> str:
    if not math.isfinite(x):
        return "an unknown time"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if x >= size:
            return f"{x / size:.2g} {unit}"
    return f"{1e6 * x:.2g} us"
