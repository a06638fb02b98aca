"""The picture of a diagnosis: eigenvalues, steps and what limits them, and the solution, over one
time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.trajectory import evaluate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .diagnosis import Diagnosis

# At most so many components are drawn, and the steps of at most so many have their own colour.
CURVES = 6
LEADING = 4
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
REFUSED = "#B00020"
FEW = 200  # above so many refused steps their marks are transparent
# If half of the steps lie in a smaller part of the span, the time axis gives all steps the same
# room.
CROWDED = 0.02
# If the steps grow by more decades than this, the time axis is logarithmic.
DECADES = 3


def draw(diagnosis: Diagnosis) -> Figure:
    """The picture, a matplotlib Figure. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 9.0), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    shift, kind = _axis(diagnosis)
    _eigenvalues(axes[0], diagnosis, shift)
    colours = _coloured(diagnosis.reference)
    _steps(axes[1], diagnosis, shift, colours)
    _solution(axes[2], diagnosis, shift, colours)
    for axis in axes:
        axis.grid(alpha=0.25)
        for jump in diagnosis.jumps:
            axis.axvline(
                shift(jump.t),
                color="0.35",
                lw=0.9,
                ls=":" if jump.slope_discontinuity else "--",
                zorder=0,
            )
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, frameon=False)
    _label_times(axes[2], diagnosis, kind)
    nature = ", ".join(sorted(diagnosis.labels)) or "no difficulties"
    if diagnosis.advice is None:
        advice = ""
    else:
        advice = f"\nrecommended: {diagnosis.advice.method}"
    figure.suptitle(f"{diagnosis.name}: {nature}{advice}", fontsize=12)
    return figure


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
    times = diagnosis.reference.times
    if kind == "steps":
        ticks = np.linspace(0, len(times) - 1, 8).round().astype(int)
        axis.set_xticks(ticks, [f"{times[k]:.5g}" for k in ticks])
        axis.set_xlabel("t, stretched to give every step the same room")
        return
    axis.set_xscale(kind)
    if kind == "linear" or times[0] == 0:
        axis.set_xlabel("t")
    else:
        axis.set_xlabel(f"distance from t = {times[0]:g}")


def _eigenvalues(axis, diagnosis, shift):
    spectrum = diagnosis.spectrum
    t = [shift(s) for s in spectrum.times]
    rows = [
        (spectrum.decay(), "fastest decay", {"marker": "o", "color": COLOURS[0], "ms": 4}),
        (
            spectrum.slowest(),
            "slowest decay",
            {"marker": "s", "color": COLOURS[5], "ms": 6, "mfc": "none", "ls": ":"},
        ),
        (spectrum.growth(), "fastest growth", {"marker": "^", "color": COLOURS[1], "ms": 4}),
        (
            spectrum.frequency(),
            "frequency near the\nimaginary axis",
            {"marker": "D", "color": COLOURS[2], "ms": 4},
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
    axis.set_ylabel("rate, per unit of t")
    axis.set_title("eigenvalues of the Jacobian", fontsize=10)


def _coloured(reference) -> dict:
    """{flat index: colour} of the drawn components: first those that limit the steps, then those
    that move most."""
    states = reference.states.to("cpu").double().numpy()
    moves = (states.max(0) - states.min(0)) / np.maximum(np.abs(states).max(0), 1e-300)
    chosen = dict.fromkeys(
        [i for i, _ in reference.dominating()] + np.argsort(-moves, kind="stable").tolist()
    )
    return dict(zip(list(chosen)[:CURVES], COLOURS))


def _steps(axis, diagnosis, shift, colours):
    reference = diagnosis.reference
    accepted = reference.accepted
    refused = reference.rejected
    leading = [i for i, _ in reference.dominating()[:LEADING]]
    for i in leading:
        own = [a for a in accepted if a.component == i]
        axis.plot(
            [shift(a.t + a.h) for a in own],
            [abs(a.h) for a in own],
            ".",
            ms=4,
            color=colours[i],
            label=f"limited by {diagnosis.called(i)}",
        )
    others = [a for a in accepted if a.component not in leading]
    axis.plot(
        [shift(a.t + a.h) for a in others],
        [abs(a.h) for a in others],
        ".",
        ms=4,
        color="0.6",
        label="limited by others" if others else None,
    )
    if refused:
        axis.plot(
            [shift(a.t + a.h) for a in refused],
            [abs(a.h) for a in refused],
            "x",
            ms=5,
            color=REFUSED,
            alpha=1.0 if len(refused) < FEW else 0.4,
            label="refused",
        )
    axis.set_yscale("log")
    axis.set_ylabel("step size")
    axis.set_title(
        f"steps of {reference.method.name}, by the component whose error is largest", fontsize=10
    )


def _solution(axis, diagnosis, shift, colours):
    reference = diagnosis.reference
    states = reference.states.to("cpu").double().numpy()
    times, rows = _dense_points(reference)
    for i, colour in sorted(colours.items()):
        axis.plot(
            [shift(t) for t in times], rows[:, i], lw=1.3, color=colour, label=diagnosis.called(i)
        )
    sizes = np.abs(states[:, list(colours)]).max(0)
    sizes = sizes[sizes > 0]
    if len(sizes) and sizes.max() > 100 * sizes.min():
        axis.set_yscale("symlog", linthresh=float(sizes.min()))
        axis.yaxis.get_major_locator().set_params(numticks=9)
    axis.set_ylabel(
        "y"
        if len(colours) == states.shape[1]
        else f"{len(colours)} of {states.shape[1]} components"
    )
    axis.set_title("solution", fontsize=10)


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
