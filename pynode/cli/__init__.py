"""The command line: ``pynode data``, ``train``, ``fit``, ``compare``, ``diagnose``, ``reproduce``,
``methods``, ``julia``, ``doctor``.

Exit codes: 0 success; 1 a solve or a training failed, or the disk failed; 2 a mistake in the
arguments; 130 Ctrl-C, or 128 plus the number of the signal that ended the command. A failure
prints one sentence to stderr, and with --json also an object to stdout. --debug shows the
traceback.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterable, Sequence

from .. import __version__
from ..core.explained import ExplainedError
from .command import Mistake, Parser, failed
from .signals import ends_politely

# The commands: the module of each, and one line about it. The module is imported when its command
# runs, because the list of commands must not wait for torch.
COMMANDS = {
    "data": ("data", "say what a table holds, and draw it"),
    "train": ("train", "learn dynamics from a table"),
    "fit": ("fit", "estimate parameters from measurements, with intervals"),
    "compare": ("compare", "compare methods on one vector field"),
    "diagnose": ("diagnose", "find out what makes a problem hard, and how to solve it"),
    "solve": ("solve", "solve a problem and write CSV or a plot"),
    "methods": ("methods", "list the methods"),
    "adjoints": ("adjoints", "list the adjoints"),
    "reproduce": ("reproduce", "train the set-ups of Kim et al. 2021"),
    "julia": ("julia", "install, choose or show Julia"),
    "doctor": ("doctor", "check the installation"),
    "completion": ("completion", "print completions for a shell"),
}
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
        arguments = parser(argv).parse_args(argv)
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
    except (ExplainedError, OSError, ValueError, TypeError) as error:
        if arguments.debug:
            raise
        if arguments.verbose and hasattr(error, "report"):
            print(error.report(), file=sys.stderr)
        code = 1
        if isinstance(error, (ValueError, TypeError)):
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


def parser(argv: Sequence[str] | None = None) -> Parser:
    """The commands and their options. With argv, only the command there has its options."""
    top = Parser(
        prog="pynode",
        description="Stiff and non-stiff neural differential equations in PyTorch.",
        epilog=CODES,
    )
    top.add_argument("--version", action="version", version=f"pynode {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    wanted: Iterable[str] = COMMANDS
    if argv is not None:
        wanted = [word for word in argv if not word.startswith("-")][:1]
    for name, (module, summary) in COMMANDS.items():
        own = commands.add_parser(name, help=summary)
        if name in wanted:
            importlib.import_module(f".{module}", __name__).add_options(own)
    return top
