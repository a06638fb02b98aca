"""The command ``pynode completion``: the completions of commands and options for a shell."""

from __future__ import annotations

import argparse

from .command import finish

COMPLETION = """\
Print the completions for a shell. shtab makes them (pip install 'torch-stiff-ode[completion]').
For bash:
  pynode completion bash > ~/.local/share/bash-completion/completions/pynode
For zsh, write them to a folder of $fpath:
  pynode completion zsh > ~/.zfunc/_pynode
"""


def add_commands(commands: argparse._SubParsersAction, top: argparse.ArgumentParser) -> None:
    """Add 'completion' to the subparsers of the top parser."""
    own = commands.add_parser(
        "completion", help="print completions for a shell", description=COMPLETION
    )
    own.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="name of the shell")
    finish(own, lambda arguments: _run(arguments, top))


def _run(arguments, top) -> int:
    try:
        import shtab
    except ImportError:
        raise OSError(
            "shtab makes the completions, and it is not installed: pip install"
            " 'torch-stiff-ode[completion]'"
        ) from None
    print(shtab.complete(top, shell=arguments.shell))
    return 0
