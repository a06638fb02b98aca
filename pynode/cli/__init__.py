"""The command line: ``pynode train``, ``compare``, ``diagnose``, ``reproduce``, ``methods``, ``julia``, ``doctor``.

Exit codes: 0 success; 1 a solve or training failed, or the disk did; 2 a mistake in what was given; 130 Ctrl-C. A
failure is one sentence on stderr; --debug shows the traceback.
"""

from __future__ import annotations

import sys

from ..julia import JuliaUnavailable
from ..status import SolveError
from ..train import TrainingError
from . import compare, completion, diagnose, julia, methods, reproduce, solve, train
from .command import Parser

CODES = """\
exit codes: 0 success; 1 a solve or training failed, or the disk did, or doctor found a problem; 2 a mistake in what was given;
130 interrupted. Every command has --help, --quiet, --verbose and --debug; those that print tables have --json.
"""


def main(argv=None) -> int:
    """Run the command line with these arguments, by default the process's own; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return _failed("interrupted; nothing had been saved yet.", 130)
    except (SolveError, TrainingError, JuliaUnavailable, OSError) as error:
        return _failed(_sentence(error, arguments), 1)
    except (ValueError, TypeError) as error:
        return _failed(_sentence(error, arguments), 2)


def _failed(sentence, code):
    print(f"pynode: {sentence}", file=sys.stderr)
    return code


def _sentence(error, arguments):
    if arguments.debug:
        raise error
    if arguments.verbose and isinstance(error, SolveError):
        print(error.report(), file=sys.stderr)
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="pynode", description="Stiff and non-stiff neural differential equations in PyTorch.", epilog=CODES)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for module in (train, compare, diagnose, solve, methods, reproduce, julia):
        module.add_commands(commands)
    completion.add_commands(commands, top)
    return top
