"""The options of ``pynode completion``."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

from ..common import Command

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

    work: ClassVar[str] = "completion:run"
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(metavar="SHELL")]
    """Name of the shell."""
    _: KW_ONLY


COMMAND = Completion
