"""The options of ``pynode completion``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from ..common import Command
from ..signals import Ending

EPILOGUE = """\
For bash:

    pynode completion bash > ~/.local/share/bash-completion/completions/pynode

For zsh, write them to a folder of $fpath:

    pynode completion zsh > ~/.zfunc/_pynode

For fish:

    pynode completion fish > ~/.config/fish/completions/pynode.fish
"""


@dataclass(frozen=True)
class Completion(Command):
    """Print completions for a shell."""

    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(metavar="SHELL")]
    """Name of the shell."""
    _: KW_ONLY

    def run(self, ending: Ending) -> int:
        from ..completion import run

        return run(self)


COMMAND = Completion
