"""The command line: ``pynode data``, ``train``, ``fit``, ``compare``, ``diagnose``, ``reproduce``,
``methods``, ``julia``, ``doctor``.

Exit codes: 0 success; 1 a solve or a training failed, or the disk failed; 2 a mistake in the
arguments; 130 Ctrl-C, or 128 plus the number of the signal that ended the command. A failure
prints one sentence to stderr, and with --json also an object to stdout. --debug shows the
traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from ..backends.julia.api import JuliaUnavailable
from ..core.status import SolveError
from ..train import TrainingError
from . import compare, completion, data, diagnose, fit, julia, methods, reproduce, solve, train
from .command import Mistake, Parser, failed
from .signals import ends_politely

CODES = """\
exit codes:
  0    success
  1    a solve or a training failed, the disk failed, or doctor found a problem
  2    a mistake in the arguments
  3    a training ended, and has not learned the data (its verdict says why)
  129  ended by SIGHUP
  130  ended by Ctrl-C
  143  ended by SIGTERM

Before a signal ends a training, the training saves its state.

Every command has --help, --quiet, --verbose and --debug. Commands that print tables have --json.
With --json, a failing command also prints an object with "error" and "code" to the standard output.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments, by default the process's own; returns the exit
    code."""
    if argv is None:
        argv = sys.argv[1:]
    try:
        arguments = parser().parse_args(argv)
    except Mistake as mistake:
        failed(mistake.sentence, 2, "--json" in argv)
        raise
    with ends_politely() as arguments.ending:
        return _run(arguments)


def _run(arguments) -> int:
    as_json = getattr(arguments, "json", False)
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return failed("pynode: interrupted.", arguments.ending.code, as_json)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SolveError, TrainingError, JuliaUnavailable, OSError, ValueError, TypeError) as error:
        if arguments.debug:
            raise
        if arguments.verbose and isinstance(error, SolveError):
            print(error.report(), file=sys.stderr)
        if isinstance(error, (SolveError, TrainingError, JuliaUnavailable, OSError)):
            code = 1
        else:
            code = 2
        results = getattr(arguments, "results", None)
        return failed(f"pynode: {_sentence(error)}", code, as_json, results)


def _sentence(error) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    # save_atomically writes the files; its own sentence names them.
    plain = error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
    ) and error.strerror == os.strerror(error.errno)
    if plain:
        return f"the standard output could not be written: {error.strerror.lower()}."
    return error.strerror


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(
        prog="pynode",
        description="Stiff and non-stiff neural differential equations in PyTorch.",
        epilog=CODES,
    )
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    for module in (data, train, fit, compare, diagnose, solve, methods, reproduce, julia):
        module.add_commands(commands)
    completion.add_commands(commands, top)
    return top
