"""The command ``pynode compare``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from .. import problems
from ..compare import MAX_NFE, METHODS, RTOLS, compare, report, stiffness_over
from ..compare.runs import REFERENCE_RTOLS
from ..compare.work import BACKENDS
from .command import finish, print_json, threads
from .targets import HELP, target
from .values import NO_PLOTS, count, names, numbers

COMPARE = """\
Solve the same dynamics with each method, and compare accuracy with work: steps, evaluations of f,
Jacobians, LU factorisations, time, and the error against a tight reference. The table also shows
whether each solve finished within --max-nfe.

--report writes one page with pictures. It adds a diagnosis of the stiffness, the gradients of
different adjoints, and a test whether another solver makes another model of the dynamics. For
several targets, such as a model before and after training, the page shows the change from one
target to the next.
"""
FILES = """\
files written to --out, named after the target:
  compare-NAME.csv   the table
  compare-NAME.png   the error against evaluations and against time
  stiffness.png      with --stiffness
  compare.html       with --report; you can read it offline, and send it by mail

examples:
  pynode compare out/robertson/model.pt
  pynode compare vanderpol --methods fbdf,qndf,rodas5p,tsit5 --rtol 1e-4,1e-6,1e-8
  pynode compare vanderpol --backend native
  pynode compare out/before/model.pt out/after/model.pt --report
  pynode compare out/robertson/epochs/*.pt --stiffness
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode compare'."""
    own.description = COMPARE
    own.epilog = FILES
    known = ", ".join(problems.names())
    own.add_argument("targets", nargs="+", metavar="MODEL.pt|PROBLEM", help=HELP + known)
    own.add_argument(
        "--methods",
        type=names,
        default=METHODS,
        metavar="NAMES",
        help=(
            "names separated by commas, see pynode methods; julia:NAME is a method of SciML"
            f" (default: {','.join(METHODS)})"
        ),
    )
    own.add_argument(
        "--rtol",
        type=numbers,
        default=RTOLS,
        metavar="X,...",
        help=f"tolerances, separated by commas (default: {','.join(f'{x:g}' for x in RTOLS)})",
    )
    own.add_argument(
        "--reference-rtol",
        type=numbers,
        default=REFERENCE_RTOLS,
        metavar="X,...",
        help=(
            "tolerances of the reference solve, which uses the first that succeeds (default:"
            f" {','.join(f'{x:g}' for x in REFERENCE_RTOLS)})"
        ),
    )
    own.add_argument(
        "--max-nfe",
        type=count(0),
        default=MAX_NFE,
        metavar="N",
        help="maximum evaluations of f in one solve; 0 sets no limit (default: %(default)s)",
    )
    own.add_argument(
        "--backend",
        default="auto",
        choices=BACKENDS,
        help=(
            "engine of the methods and of the reference: torch, or native code, see docs/native.md"
            " (default: %(default)s, which is torch)"
        ),
    )
    kind = own.add_mutually_exclusive_group()
    kind.add_argument(
        "--stiffness",
        action="store_true",
        help="show only the stiffness of each target and its change; compare no methods",
    )
    kind.add_argument(
        "--report",
        action="store_true",
        help="write compare.html; this takes a minute or more per target",
    )
    own.add_argument(
        "--out", default="out", metavar="DIR", help="folder for the files (default: %(default)s)"
    )
    threads(own)
    finish(own, _run, "print the rows as JSON instead of the table")


def _run(arguments) -> int:
    torch.set_num_threads(arguments.threads)
    chosen = _labelled(arguments.targets)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    if arguments.stiffness:
        plain, written = _stiffness(chosen, arguments, out)
    else:
        plain, written = _methods(chosen, arguments, out)
    if arguments.json:
        print_json(plain)
        return 0
    if not any(path.suffix == ".png" for path in written):
        print(NO_PLOTS)
    if written:
        print("Written: " + ", ".join(map(str, written)))
    return 0


def _stiffness(chosen, arguments, out) -> tuple:
    """(rows as plain data, paths written)."""
    report = stiffness_over(chosen, arguments.backend)
    if not arguments.json:
        print(report)
    return report.rows, _drawn(report, out / "stiffness.png")


def _methods(chosen, arguments, out) -> tuple:
    """(rows as plain data by target, paths written)."""
    log = None
    on_row = None
    if not arguments.quiet:
        log = _log
        on_row = _log_row
    limit = arguments.max_nfe or None
    made = {}
    written: list[Path] = []
    drawn: list[Path] = []
    for label, problem in chosen.items():
        made[label] = compare(
            problem,
            arguments.methods,
            arguments.rtol,
            limit,
            report=on_row,
            reference_rtols=arguments.reference_rtol,
            backend=arguments.backend,
        )
        if not arguments.json:
            print(made[label])
        drawn = _drawn(made[label], out / f"compare-{label}.png")
        written += [made[label].to_csv(out / f"compare-{label}.csv"), *drawn]
    if arguments.report and drawn:
        written.append(
            report(
                out / "compare.html",
                chosen,
                arguments.methods,
                arguments.rtol,
                limit,
                log,
                made,
                arguments.reference_rtol,
                arguments.backend,
            )
        )
    return {label: [asdict(row) for row in result.rows] for label, result in made.items()}, written


def _drawn(result, path) -> list:
    """[path of the picture], or [] without matplotlib."""
    try:
        return [result.plot(path)]
    except ImportError:
        return []


def _labelled(targets) -> dict:
    """{label: Problem}. A label is the problem's name, plus a number if two names are equal."""
    problems = {}
    for name in targets:
        problem = target(name)
        label = problem.name
        k = 2
        while label in problems:
            label = f"{problem.name}-{k}"
            k = k + 1
        problems[label] = problem
    return problems


def _log_row(row):
    _log(f"{row.method} at rtol {row.rtol:g}: {row.nfe} evaluations, {row.seconds:.2f} s")


def _log(what):
    print(what, file=sys.stderr)
