"""The command ``pynode solve``."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

import torch

from .. import problems
from ..backends.registry import NAMES as BACKENDS
from ..core.drawing.figures import headline
from ..core.files import save_figure, save_text
from ..core.views.picture import MOST, separate_figure
from ..integrate import solve
from .command import finish, print_json
from .targets import HELP, target
from .values import NO_PLOTS, count, numbers, positive

# States smaller than this part of the largest are not seen beside it.
SMALL = 0.01
SOLVE = """\
Solve a problem, a trained model or your own vector field. Write the states as CSV to the standard
output or to --out. If the solve fails, pynode still writes the states before the failure. pynode
runs the code of MODULE:OBJECT or FILE.py:OBJECT.
"""
EXAMPLES = """\
examples:
  pynode solve robertson
  pynode solve out/robertson/model.pt --method rodas5p --out states.csv --plot states.png
  pynode solve my_fields.py:Pendulum --y0 1,0 --t 0,20 --points 200
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode solve'."""
    own.description = SOLVE
    own.epilog = EXAMPLES
    own.add_argument("target", metavar="TARGET", help=HELP + ", ".join(problems.names()))
    own.add_argument(
        "--y0",
        type=numbers,
        metavar="X,...",
        help="initial state (default: the state of the target)",
    )
    own.add_argument(
        "--t",
        type=numbers,
        metavar="T,...",
        help="start and end, or all times (default: the times of the target)",
    )
    own.add_argument(
        "--points",
        type=int,
        metavar="N",
        help="number of evenly spaced times (default: the times of the target, or 101)",
    )
    own.add_argument(
        "--method",
        default="auto",
        metavar="NAME",
        help="method of the solve, see pynode methods (default: %(default)s)",
    )
    own.add_argument(
        "--rtol",
        type=positive,
        metavar="X",
        help="relative tolerance (default: the tolerance of the target)",
    )
    own.add_argument(
        "--atol",
        type=positive,
        metavar="X",
        help="absolute tolerance (default: the tolerance of the target)",
    )
    own.add_argument(
        "--backend",
        default="auto",
        choices=BACKENDS,
        help="engine, see docs/native.md and docs/julia.md (default: %(default)s)",
    )
    own.add_argument(
        "--max-steps",
        type=count(1),
        default=100_000,
        metavar="N",
        help="maximum number of steps (default: %(default)s)",
    )
    own.add_argument("--out", metavar="FILE", help="write the CSV to this file")
    own.add_argument(
        "--plot", metavar="FILE", help="draw the states over time to this file (png, pdf, svg)"
    )
    finish(own, _run, "print times, states and counts as one JSON object instead of the CSV")


def _run(arguments) -> int:
    span = arguments.t
    if span is not None and len(span) < 2:
        raise ValueError("--t takes two times or more, with a comma: --t 0,10")
    if span is None:
        ends = None
    else:
        ends = (span[0], span[-1])
    problem = target(arguments.target, arguments.y0, ends)
    times = _times(problem, span, arguments.points)
    if arguments.rtol is None:
        rtol = problem.rtol
    else:
        rtol = arguments.rtol
    if arguments.atol is None:
        atol = torch.as_tensor(problem.atol, dtype=problem.y0.dtype)
    else:
        atol = torch.as_tensor(arguments.atol, dtype=problem.y0.dtype)
    with torch.no_grad():
        solution = solve(
            problem.field,
            problem.y0,
            times,
            method=arguments.method,
            rtol=rtol,
            atol=atol,
            backend=arguments.backend,
            max_steps=arguments.max_steps,
            throw=False,
        )
    # Write the states that the solve reached, also after a failure.
    if arguments.out:
        save_text(_folder(arguments.out), _csv(solution))
    if arguments.plot:
        _plot(_folder(arguments.plot), problem.name, solution)
    results = {
        "problem": problem.name,
        "method": solution.method,
        "names": solution.names,
        "t": solution.t.tolist(),
        "y": solution.y.tolist(),
        "stats": solution.stats.as_dict(),
    }
    if not (arguments.json or arguments.out):
        print(_csv(solution), end="")
    arguments.results = results
    solution.check()
    if arguments.json:
        print_json(results)
    if not arguments.quiet:
        print(f"{solution.method}: {solution.stats}", file=sys.stderr)
    return 0


def _folder(path) -> Path:
    """The path; its folder is created if it is missing."""
    path = Path(path)
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


def _plot(path, title, solution):
    """Draw the states over time, each on an axis of its own where some are much smaller than
    others."""
    sizes = solution.y.abs().amax(0)[:MOST]
    panels = bool((sizes < SMALL * sizes.max()).any())
    try:
        figure = separate_figure(solution, panels)
    except ImportError:
        print(NO_PLOTS, file=sys.stderr)
        return
    headline(figure, f"{title} by {solution.method}")
    save_figure(path, figure, 140)
