"""The command ``pynode completion``: the completions of commands and options for a shell."""

from __future__ import annotations

from .app import application
from .commands.completion import Completion


def run(command: Completion) -> int:
    """Print them; returns the exit code."""
    print(application().generate_completion(shell=command.shell))
    return 0
