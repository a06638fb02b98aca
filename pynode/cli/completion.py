"""The command ``pynode completion``: the completions of commands and options for a shell."""

from __future__ import annotations

from .call import Call
from .commands.completion import Completion


def run(command: Completion, call: Call) -> int:
    """Print them; returns the exit code."""
    print(call.app.generate_completion(shell=command.shell))
    return 0
