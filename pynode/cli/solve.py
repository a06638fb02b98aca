"""The command ``pynode solve``."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch

from ..core.drawing.figures import headline
from ..core.files import save_figure, save_text
from ..core.status import SolveError
from ..core.views.picture import MOST, separate_figure
from ..integrate import solve
from .call import Call
from .commands.solve import Solve
from .output import NO_PLOTS, Unfinished, print_json
from .targets import target

# States smaller than this part of the largest are not seen beside it.
SMALL = 0.01


def run(command: Solve, call: Call) -> int:
    """Solve and write; returns the exit code."""
    span = command.t
    if span is not None and len(span) < 2:
        raise ValueError("--t takes two times or more, with a comma: --t 0,10")
    if span is None:
        ends = None
    else:
        ends = (span[0], span[-1])
    problem = target(command.target, command.y0, ends)
    times = _times(problem, span, command.points)
    if command.rtol is None:
        rtol = problem.rtol
    else:
        rtol = command.rtol
    if command.atol is None:
        atol = torch.as_tensor(problem.atol, dtype=problem.y0.dtype)
    else:
        atol = torch.as_tensor(command.atol, dtype=problem.y0.dtype)
    with torch.no_grad():
        solution = solve(
            problem.field,
            problem.y0,
            times,
            method=command.method,
            rtol=rtol,
            atol=atol,
            backend=command.backend,
            max_steps=command.max_steps,
            throw=False,
        )
    # Write the states that the solve reached, also after a failure.
    if command.out:
        save_text(_folder(command.out), _csv(solution))
    if command.plot:
        _plot(_folder(command.plot), problem.name, solution, command.talk)
    results = {
        "problem": problem.name,
        "method": solution.method,
        "names": solution.names,
        "t": solution.t.tolist(),
        "y": solution.y.tolist(),
        "stats": solution.stats.as_dict(),
    }
    if not (command.json or command.out):
        print(_csv(solution), end="")
    try:
        solution.check()
    except SolveError as error:
        raise Unfinished(results) from error
    if command.json:
        print_json(results)
    command.talk.say(f"{solution.method}: {solution.stats}")
    return 0


def _folder(path: Path) -> Path:
    """The path; its folder is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _times(problem, span, points):
    """Output times: the given ones, evenly spaced ones, or the problem's own."""
    if points is not None and points < 2:
        raise ValueError("--points must be at least 2: the start and the end")
    if points is not None:
        return torch.linspace(*problem.tspan, points, dtype=torch.float64)
    if span is not None and len(span) > 2:
        return torch.tensor(span, dtype=torch.float64)
    return problem.times()


def _csv(solution) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("t", *solution.names))
    writer.writerows(
        [repr(t), *map(repr, y)] for t, y in zip(solution.t.tolist(), solution.y.tolist())
    )
    return text.getvalue()


def _plot(path, title, solution, talk):
    """Draw the states over time, each on an axis of its own where some are much smaller than
    others."""
    sizes = solution.y.abs().amax(0)[:MOST]
    panels = bool((sizes < SMALL * sizes.max()).any())
    try:
        figure = separate_figure(solution, panels)
    except ImportError:
        talk.say(NO_PLOTS)
        return
    headline(figure, f"{title} by {solution.method}")
    save_figure(path, figure, 140)
