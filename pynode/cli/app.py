"""The commands of ``pynode``, and how their help looks."""

from __future__ import annotations

from cyclopts import App, Parameter
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import Box

from .. import __version__
from ..core.option_kinds import as_typed
from .commands import (
    adjoints,
    compare,
    completion,
    data,
    diagnose,
    doctor,
    fit,
    julia,
    methods,
    reproduce,
    solve,
    train,
)

ABOUT = "Stiff and non-stiff neural differential equations in PyTorch."
CODES = """\
Exit codes:

    0    success
    1    a solve or a training failed, the disk failed, or doctor found a problem
    2    a mistake in the arguments
    3    a training ended, and has not learned the data (its verdict says why)
    129  ended by SIGHUP
    130  ended by Ctrl-C
    143  ended by SIGTERM

Before a signal ends a training, the training saves its state.

Every command has --help, --config, --quiet, --verbose and --debug. Commands that print tables have
--json. With --json, a failing command also prints an object with "error" and "code" to the standard
output. Results go to the standard output, and talk to the standard error.
"""
# Columns without a frame read as plain text in a file, too.
_NO_FRAME = Box("    \n" * 8)
# A flag has no --no-... unless it says so.
_PARAMETER = Parameter(negative="", show_default=as_typed, allow_repeating=True)


# The commands in the order of the help. Their modules import no torch, for which help would wait.
MODULES = (
    data,
    train,
    fit,
    compare,
    diagnose,
    solve,
    methods,
    adjoints,
    reproduce,
    doctor,
    completion,
)


def application() -> App:
    """The whole command line."""
    app = App(
        name="pynode",
        help=ABOUT,
        help_epilogue=CODES,
        version=f"pynode {__version__}",
        version_flags="--version",
        help_format="markdown",
        help_formatter=DefaultFormatter(panel_spec=PanelSpec(box=_NO_FRAME, padding=(0, 0))),
        default_parameter=_PARAMETER,
        result_action="return_value",
    )
    for place, module in enumerate(MODULES):
        app.command(
            module.COMMAND,
            name=module.__name__.rpartition(".")[2],
            help_epilogue=module.EPILOGUE,
            sort_key=place,
        )
    actions = App(
        name="julia",
        help=julia.ABOUT,
        help_epilogue="",
        sort_key=len(MODULES),
        default_parameter=_PARAMETER,  # the documentation does not inherit it
    )
    for place, (name, action) in enumerate(julia.ACTIONS.items()):
        actions.command(action, name=name, help_epilogue="", sort_key=place)
    app.command(actions)
    return app
