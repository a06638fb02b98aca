"""The command ``pynode doctor``."""

from __future__ import annotations

from collections.abc import Callable

from .. import doctor
from .call import Call
from .commands.doctor import Doctor


def run(command: Doctor, call: Call) -> int:
    """Examine and tell; returns the exit code."""
    report: Callable | None = _show
    if command.json:
        report = None
    findings = doctor.examine(command.limit, report)
    if command.json:
        print(doctor.as_json(findings))
    if doctor.healthy(findings):
        return 0
    return 1


def _show(finding) -> None:
    print(finding, flush=True)
