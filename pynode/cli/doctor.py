"""The command ``pynode doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .. import doctor
from .command import finish
from .values import positive

DOCTOR = """\
Examine the installation and try it. Each trial runs in its own process with a time limit. The
trials cover where Julia is, its version, its packages, both orders of importing torch and
juliacall, a solve with its gradient, and the GPU. Each finding has a remedy. The exit code is 0 if
everything that is installed works, and 1 otherwise. Julia may be absent: pynode works without it.
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode doctor'."""
    own.description = DOCTOR
    own.add_argument(
        "--limit",
        type=positive,
        default=doctor.LIMIT,
        metavar="S",
        help=(
            "time limit of one trial in seconds (default: %(default)g; the first start after an"
            " update takes minutes)"
        ),
    )
    finish(own, _run, "print one JSON object at the end")


def _run(arguments) -> int:
    report: Callable | None = _show
    if arguments.json:
        report = None
    findings = doctor.examine(arguments.limit, report)
    if arguments.json:
        print(doctor.as_json(findings))
    if doctor.healthy(findings):
        return 0
    return 1


def _show(finding) -> None:
    print(finding, flush=True)
