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
from ..core.files import save_figure, save_text
from ..solve import solve
from .command import finish, print_json
from .targets import HELP, target
from .values import NO_PLOTS, count, numbers, positive

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


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add 'solve' to the subparsers of the top parser."""
    own = commands.add_parser(
        "solve", help="solve a problem and write CSV or a plot", description=SOLVE, epilog=EXAMPLES
    )
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
    names = getattr(problem.field, "columns", None) or getattr(problem.field, "species", None)
    names = tuple(names or (f"y{i}" for i in range(len(problem.y0))))
    # Write the states that the solve reached, also after a failure.
    if arguments.out:
        save_text(_folder(arguments.out), _csv(names, solution))
    if arguments.plot:
        _plot(_folder(arguments.plot), problem.name, names, solution)
    results = {
        "problem": problem.name,
        "method": solution.method,
        "names": names,
        "t": solution.t.tolist(),
        "y": solution.y.tolist(),
        "stats": solution.stats.as_dict(),
    }
    if not (arguments.json or arguments.out):
        print(_csv(names, solution), end="")
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
    """Output times: the given ones, evenly spaced ones, the problem's own, or 101."""
    if points is not None and points < 2:
        raise ValueError("--points must be at least 2: the start and the end")
    if points is None and span is not None and len(span) > 2:
        return torch.tensor(span, dtype=torch.float64)
    if points is None and problem.t_eval is not None:
        start = torch.tensor([problem.tspan[0]], dtype=torch.float64)
        return torch.cat((start, problem.t_eval[problem.t_eval != problem.tspan[0]]))
    return torch.linspace(*problem.tspan, points or 101, dtype=torch.float64)


def _csv(names, solution) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("t", *names))
    writer.writerows(
        [repr(t), *map(repr, y)] for t, y in zip(solution.t.tolist(), solution.y.tolist())
    )
    return text.getvalue()


def _plot(path, title, names, solution):
    """Plot the states over time, on a logarithmic axis if the gaps between times grow a lot."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(NO_PLOTS, file=sys.stderr)
        return
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axis = figure.subplots()
    t = solution.t
    gaps = t.diff().abs()
    if len(gaps) > 0 and float(t[0]) >= 0 and float(gaps[-1]) > 1000 * float(gaps[0]):
        axis.set_xscale("log")
        first = 1
    else:
        first = 0
    for i, name in enumerate(names[:12]):
        scale = float(solution.y[:, i].abs().max())
        small = 0 < scale < 1e-3 * float(solution.y.abs().max())
        if small:
            label = f"{name} / {scale:.2g}"
        else:
            label = name
            scale = 1.0
        axis.plot(t[first:], solution.y[first:, i] / scale, label=label)
    axis.set(xlabel="t", title=f"{title} by {solution.method}")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=9)
    save_figure(path, figure, 140)
