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


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode completion'."""
    own.description = COMPLETION
    own.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="name of the shell")
    finish(own, _run)


def _run(arguments) -> int:
    try:
        import shtab
    except ImportError:
        raise OSError(
            "shtab makes the completions, and it is not installed: pip install"
            " 'torch-stiff-ode[completion]'"
        ) from None
    from . import parser

    print(shtab.complete(parser(), shell=arguments.shell))
    return 0
