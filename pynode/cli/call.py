"""One call of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import App

from .signals import Ending


@dataclass(frozen=True)
class Call:
    """What a command gets from its call. app: the whole command line. ending: the exit code after a
    signal."""

    app: App
    ending: Ending
