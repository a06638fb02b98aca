"""The command ``pynode compare``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from .. import problems
from ..compare import MAX_NFE, METHODS, RTOLS, compare, stiffness_over
from ..targets import HELP, target
from .command import finish, threads
from .values import NO_PLOTS, names, numbers

COMPARE = """\
Solve the same dynamics with each method, and show accuracy against work: steps, evaluations of f, Jacobians, LU
factorisations, time, the error against a tight reference, and whether the solve finished within --max-nfe. With
--report also, on one page with its pictures inside: a diagnosis of the stiffness, whether another solver makes another
model of it, and the gradients of different adjoints; of several targets, such as a model before and after training, from
one to the next.
"""
FILES = """\
files written to --out, named after the target:
  compare-NAME.csv   the table       compare-NAME.png   error against evaluations and against time
  stiffness.png      with --stiffness
  compare.html       with --report; it needs no network to be read, and can be mailed

examples:
  pynode compare out/robertson/model.pt
  pynode compare vanderpol --methods fbdf,qndf,rodas5p,tsit5 --rtol 1e-4,1e-6,1e-8
  pynode compare out/before/model.pt out/after/model.pt --report
  pynode compare out/robertson/epochs/*.pt --stiffness
"""


def add_commands(commands):
    """Add 'compare' to the subparsers of the top parser."""
    own = commands.add_parser(
        "compare", help="methods against each other on one vector field", description=COMPARE, epilog=FILES
    )
    known = ", ".join(problems.names())
    own.add_argument("targets", nargs="+", metavar="MODEL.pt|PROBLEM", help=HELP + known)
    own.add_argument("--methods", type=names, default=METHODS, metavar="NAMES",
                     help=f"with commas, see pynode methods; julia:NAME for SciML's (default: {','.join(METHODS)})")
    own.add_argument("--rtol", type=numbers, default=RTOLS, metavar="X,...",
                     help=f"tolerances, with commas (default: {','.join(f'{x:g}' for x in RTOLS)})")
    own.add_argument("--max-nfe", type=int, default=MAX_NFE, metavar="N",
                     help="limit on evaluations of f in one solve, 0 for none (default: %(default)s)")
    own.add_argument("--stiffness", action="store_true", help="only the stiffness of each, from one to the next, no methods")
    own.add_argument("--report", action="store_true", help="write compare.html: a minute or more for each target")
    own.add_argument("--out", default="out", metavar="DIR", help="where the files go (default: %(default)s)")
    threads(own)
    finish(own, _run, "print the rows as JSON instead of the table")


def _run(arguments) -> int:
    torch.set_num_threads(arguments.threads)
    chosen = _labelled(arguments.targets)
    out, written, drawn, rows = Path(arguments.out), [], True, {}
    out.mkdir(parents=True, exist_ok=True)
    if arguments.stiffness:
        return _stiffness(chosen, arguments.json, out)
    for label, problem in chosen.items():
        say = None if arguments.quiet else _tell
        result = compare(problem, arguments.methods, arguments.rtol, arguments.max_nfe or None, report=say)
        rows[label] = [asdict(row) for row in result.rows]
        if not arguments.json:
            print(result)
        written.append(result.to_csv(out / f"compare-{label}.csv"))
        try:
            written.append(result.plot(out / f"compare-{label}.png"))
        except ImportError:
            drawn = False
    if arguments.report and drawn:
        from ..compare.report import report

        limit = arguments.max_nfe or None
        written.append(report(out / "compare.html", chosen, arguments.methods, arguments.rtol, limit, say and _say))
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    if not drawn:
        print(NO_PLOTS)
    print("Written: " + ", ".join(map(str, written)))
    return 0


def _stiffness(chosen, as_json, out) -> int:
    found = stiffness_over(chosen)
    if as_json:
        head, *lines = found.cells
        print(json.dumps([dict(zip(head, line)) for line in lines], indent=1))
    else:
        print(found)
    try:
        written = found.plot(out / "stiffness.png")
    except ImportError:
        written = None
    if not as_json:
        print(f"Written: {written}" if written else NO_PLOTS)
    return 0


def _labelled(targets) -> dict:
    """{label: Problem}: the problem's name, with a number where two have the same."""
    found = {}
    for name in targets:
        problem = target(name)
        label, k = problem.name, 2
        while label in found:
            label, k = f"{problem.name}-{k}", k + 1
        found[label] = problem
    return found


def _tell(row):
    _say(f"{row.method} at rtol {row.rtol:g}: {row.nfe} evaluations, {row.seconds:.2f} s")


def _say(what):
    print(what, file=sys.stderr)
