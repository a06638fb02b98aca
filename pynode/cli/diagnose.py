"""The command ``pynode diagnose``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from .. import problems
from ..diagnosis import diagnose
from ..diagnosis.examine import ENGINES
from .command import finish, print_json, threads
from .targets import HELP, target
from .values import NO_PLOTS, positive

DIAGNOSE = """\
Find out what makes a problem hard or easy, and how to solve it. The report shows:

  - the eigenvalues of the Jacobian along the solution, and the time scales
  - the causes that limit the steps
  - jumps of f
  - the sizes of the components against atol
  - the cost of explicit methods against implicit methods

It recommends a method, after short trials of the candidates.
"""
FILES = """\
files written to --out, named after the target:
  diagnosis-NAME.json   all findings as data
  diagnosis-NAME.png    eigenvalues, steps and solution over time

examples:
  pynode diagnose robertson
  pynode diagnose out/robertson/model.pt --rtol 1e-4 --json
  pynode diagnose robertson --backend native
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode diagnose'."""
    own.description = DIAGNOSE
    own.epilog = FILES
    known = ", ".join(problems.names())
    own.add_argument("target", metavar="MODEL.pt|PROBLEM", help=HELP + known)
    own.add_argument(
        "--rtol",
        type=positive,
        metavar="X",
        help="relative tolerance (default: the tolerance of the problem)",
    )
    own.add_argument(
        "--atol",
        type=positive,
        metavar="X",
        help="absolute tolerance of all components (default: the tolerance of the problem)",
    )
    own.add_argument(
        "--backend",
        choices=ENGINES,
        default="auto",
        help="engine of all solves, and of the methods that compete (default: %(default)s, torch)",
    )
    own.add_argument(
        "--no-trials", action="store_true", help="recommend from estimates, without timed solves"
    )
    own.add_argument(
        "--seconds",
        type=positive,
        default=60.0,
        metavar="S",
        help="time limit of the reference solve, and of all trials together (default: %(default)g)",
    )
    own.add_argument(
        "--out", metavar="DIR", help="write the JSON file and the picture to this folder"
    )
    threads(own)
    finish(own, _run, "print the findings as one JSON object instead of the report")


def _run(arguments) -> int:
    torch.set_num_threads(arguments.threads)
    problem = target(arguments.target)
    names = getattr(problem.field, "columns", None) or getattr(problem.field, "species", None)
    diagnosis = diagnose(
        problem,
        rtol=arguments.rtol,
        atol=arguments.atol,
        names=names,
        trials=not arguments.no_trials,
        max_seconds=arguments.seconds,
        backend=arguments.backend,
    )
    if arguments.json:
        print_json(diagnosis.as_dict())
    else:
        print(diagnosis)
    if arguments.out is not None:
        written = _write(diagnosis, Path(arguments.out))
        if not arguments.json:
            print("Written: " + ", ".join(map(str, written)))
    return 0


def _write(diagnosis, out) -> list:
    out.mkdir(parents=True, exist_ok=True)
    written = [diagnosis.to_json(out / f"diagnosis-{diagnosis.name}.json")]
    try:
        written.append(diagnosis.plot(out / f"diagnosis-{diagnosis.name}.png"))
    except ImportError:
        print(NO_PLOTS, file=sys.stderr)
    return written
