"""The picture of a diagnosis: eigenvalues, steps and what limits them, and the solution, over one
time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.drawing.figures import LABEL, LEGEND_WIDTH, entry, finish, headline, legend_beside
from ..core.drawing.palette import GREY, Look, failed_end, look
from ..core.trajectory import evaluate
from ..core.unit_names import with_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .diagnosis import Diagnosis

# At most so many components are drawn, and the steps of at most so many have their own colour.
CURVES = 6
LEADING = 4
REFUSED = "black"
FEW = 200  # above so many refused steps their marks are transparent
# If half of the steps lie in a smaller part of the span, the time axis gives all steps the same
# room.
CROWDED = 0.02
# If the steps grow by more decades than this, the time axis is logarithmic.
DECADES = 3
JUMP = "--"
KINK = ":"


def draw(diagnosis: Diagnosis) -> Figure:
    """The picture, a matplotlib Figure. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 9.0), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    shift, kind = _axis(diagnosis)
    looks = _looks(diagnosis.reference)
    _eigenvalues(axes[0], diagnosis, shift)
    _steps(axes[1], diagnosis, shift, looks)
    _solution(axes[2], diagnosis, shift, looks)
    unit = diagnosis.layout.time_unit
    rate = "rate, per unit of t"
    if unit:
        rate = f"rate (1/{unit})"
    labels = [rate, with_unit("step size", unit), _label_of_states(diagnosis, looks)]
    for axis, label in zip(axes, labels):
        x = ""
        if axis is axes[2]:
            x = _label_times(axis, diagnosis, kind)
        finish(axis, x, label)
        for jump in diagnosis.jumps:
            dashes = JUMP
            if jump.slope_discontinuity:
                dashes = KINK
            axis.axvline(shift(jump.t), color=GREY, lw=0.9, ls=dashes, zorder=0)
        handles, _ = axis.get_legend_handles_labels()
        if axis is axes[2]:
            handles += _marks_in_legend(diagnosis)
        legend_beside(axis, handles, width=LEGEND_WIDTH - 8)
    headline(figure, _sentence(diagnosis))
    return figure


def _sentence(diagnosis):
    """What the picture says in words."""
    nature = ", ".join(sorted(diagnosis.labels)) or "no difficulties"
    sentence = f"{diagnosis.name}: {nature}"
    if diagnosis.advice is not None:
        sentence += f"; recommended: {diagnosis.advice.method}"
    return sentence


def _label_of_states(diagnosis, looks):
    """What the axis of the solution says."""
    count = diagnosis.reference.states.shape[1]
    if len(looks) == 1:
        return with_unit(diagnosis.called(next(iter(looks))))
    if len(looks) == count:
        return "components of y"
    return f"{len(looks)} of {count} components"


def _marks_in_legend(diagnosis):
    """The lines of the legend for the times at which f or its slope jumps, and for the end of a
    solve that failed."""
    handles = []
    if any(not jump.slope_discontinuity for jump in diagnosis.jumps):
        handles.append(entry("f jumps", color=GREY, lw=0.9, ls=JUMP))
    if any(jump.slope_discontinuity for jump in diagnosis.jumps):
        handles.append(entry("the slope of f jumps", color=GREY, lw=0.9, ls=KINK))
    if not diagnosis.reference.status.success:
        handles.append(entry("the solve failed here", **failed_end(GREY)))
    return handles


def _axis(diagnosis):
    """(the position of a time on the axis, kind of axis). 'log' if the steps grow from tiny ones at
    the start; 'steps', the same room for every step, if most of them lie in a small part of the
    span; otherwise 'linear'."""
    times = np.asarray(diagnosis.reference.times)
    sizes = np.asarray(diagnosis.reference.sizes)
    distance = np.abs(times - times[0])
    quarter = max(1, len(sizes) // 4)
    if len(sizes) > 8 and np.median(sizes[-quarter:]) > 10**DECADES * np.median(sizes[:quarter]):
        return (lambda t: abs(t - times[0])), "log"
    # If f jumps, small steps say nothing about the solution.
    if (
        len(sizes) > 8
        and not diagnosis.jumps
        and np.sort(sizes)[: len(sizes) // 2].sum() < CROWDED * sizes.sum()
    ):
        return (
            lambda t: float(np.interp(abs(t - times[0]), distance, np.arange(len(times))))
        ), "steps"
    return (lambda t: t), "linear"


def _label_times(axis, diagnosis, kind):
    """What the axis of the times says. Sets its ticks and its scale."""
    times = diagnosis.reference.times
    name = with_unit("t", diagnosis.layout.time_unit)
    if kind == "steps":
        ticks = np.linspace(0, len(times) - 1, 8).round().astype(int)
        axis.set_xticks(ticks, [f"{times[k]:.5g}" for k in ticks])
        return f"{name}, stretched to give every step the same room"
    axis.set_xscale(kind)
    if kind == "linear" or times[0] == 0:
        return name
    return f"distance from t = {times[0]:g}"


def _eigenvalues(axis, diagnosis, shift):
    spectrum = diagnosis.spectrum
    t = [shift(s) for s in spectrum.times]
    rows = [
        (spectrum.decay(), "fastest decay", {"marker": "o", "color": look(0).colour, "ms": 4}),
        (
            spectrum.slowest(),
            "slowest decay",
            {"marker": "s", "color": look(5).colour, "ms": 6, "mfc": "none", "ls": ":"},
        ),
        (spectrum.growth(), "fastest growth", {"marker": "^", "color": look(1).colour, "ms": 4}),
        (
            spectrum.frequency(),
            "frequency near the imaginary axis",
            {"marker": "D", "color": look(2).colour, "ms": 4},
        ),
    ]
    drawn = []
    for values, label, style in rows:
        shown = np.where(np.isfinite(values) & (values > 0) & (values < 1e300), values, np.nan)
        if np.isfinite(shown).any():
            axis.plot(t, shown, label=label, lw=1.2, **style)
            drawn.append(shown)
    if diagnosis.reference.span > 0:
        axis.axhline(1 / diagnosis.reference.span, color="0.5", lw=1, ls="-.", label="1 / span")
    if drawn:
        axis.set_yscale("log")
    axis.set_title("eigenvalues of the Jacobian", fontsize=LABEL)


def _looks(reference) -> dict[int, Look]:
    """{flat index: look} of the drawn components: first those that limit the steps, then those
    that move most."""
    states = reference.states.to("cpu").double().numpy()
    moves = (states.max(0) - states.min(0)) / np.maximum(np.abs(states).max(0), 1e-300)
    chosen = dict.fromkeys(
        [i for i, _ in reference.dominating()] + np.argsort(-moves, kind="stable").tolist()
    )
    return {i: look(k) for k, i in enumerate(list(chosen)[:CURVES])}


def _steps(axis, diagnosis, shift, looks):
    reference = diagnosis.reference
    leading = [i for i, _ in reference.dominating()[:LEADING]]
    groups = [
        ([a for a in reference.accepted if a.component == i], f"limited by {diagnosis.called(i)}")
        for i in leading
    ]
    for i, (own, label) in zip(leading, groups):
        _points(axis, own, shift, label, marker=looks[i].marker, color=looks[i].colour)
    others = [a for a in reference.accepted if a.component not in leading]
    _points(axis, others, shift, "limited by others", marker="*", color="0.6")
    alpha = 1.0
    if len(reference.rejected) >= FEW:
        alpha = 0.4
    crosses = {"marker": "x", "color": REFUSED, "ms": 5, "alpha": alpha}
    _points(axis, reference.rejected, shift, "refused", **crosses)
    axis.set_yscale("log")
    title = f"steps of {reference.method.name}, by the component whose error is largest"
    axis.set_title(title, fontsize=LABEL)


def _points(axis, attempts, shift, label, **style):
    """The sizes of steps at their ends. Nothing without steps."""
    if not attempts:
        return
    times = [shift(attempt.t + attempt.h) for attempt in attempts]
    sizes = [abs(attempt.h) for attempt in attempts]
    axis.plot(times, sizes, **({"ls": "", "ms": 2.6, "label": label} | style))


def _solution(axis, diagnosis, shift, looks):
    reference = diagnosis.reference
    states = reference.states.to("cpu").double().numpy()
    times, rows = _dense_points(reference)
    shifted = [shift(t) for t in times]
    for i, own in sorted(looks.items()):
        style = {"color": own.colour, "ls": own.dashes, "lw": 1.3}
        axis.plot(shifted, rows[:, i], label=with_unit(diagnosis.called(i)), **style)
        if not reference.status.success:
            axis.plot(shifted[-1:], rows[-1:, i], **failed_end(own.colour))
    sizes = np.abs(states[:, list(looks)]).max(0)
    sizes = sizes[sizes > 0]
    if len(sizes) and sizes.max() > 100 * sizes.min():
        axis.set_yscale("symlog", linthresh=float(sizes.min()))
        axis.yaxis.get_major_locator().set_params(numticks=9)
    axis.set_title("solution", fontsize=LABEL)


def _dense_points(reference):
    """(times, states) at the ends of the steps and inside them, so that long steps of high order
    look curved."""
    if len(reference.sizes) > 2000:
        inner = 1
    else:
        inner = 8
    theta = torch.arange(1, inner + 1, dtype=torch.float64, device=reference.states.device) / inner
    times = [reference.times[0]]
    rows = [reference.states[:1].double().cpu().numpy()]
    for k, polynomial in enumerate(reference.path.polynomials):
        t = reference.times[k]
        h = reference.times[k + 1] - reference.times[k]
        times += [t + h * x for x in theta.tolist()]
        rows.append(evaluate(polynomial, theta).double().cpu().numpy())
    return times, np.concatenate(rows)
