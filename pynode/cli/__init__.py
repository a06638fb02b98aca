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
from collections.abc import Sequence

from cyclopts import CycloptsError

from ..core.explained import ExplainedError
from .app import application
from .call import Call
from .common import Command
from .config import config_of
from .mistakes import mistake_sentence
from .output import Unfinished, failed, warnings_as_sentences
from .signals import ends_politely

NO_COMMAND = "give a command, such as pynode train DATA. See pynode --help."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments, by default the process's own; returns the exit
    code."""
    if argv is None:
        argv = sys.argv[1:]
    words = list(argv)
    if not words:
        return failed(f"pynode: {NO_COMMAND}", 2, as_json=False)
    app = application()
    try:
        config = config_of(words)
        if config is not None:
            app.config = (config,)
        found, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as mistake:
        return failed(mistake_sentence(app, mistake), 2, "--json" in words)
    except (OSError, ValueError) as error:
        return failed(f"pynode: {error}", 2, "--json" in words)
    try:
        made = found(*bound.args, **bound.kwargs)
        if not isinstance(made, Command):  # help or the version was printed
            sys.stdout.flush()
            return 0
    except BrokenPipeError:
        return _unread()
    with ends_politely() as ending:
        return _run(made, Call(app, ending))


def _unread() -> int:
    """The reader of the output has closed it, such as head; returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _run(command: Command, call: Call) -> int:
    as_json = getattr(command, "json", False)
    module, _, name = command.work.partition(":")
    try:
        work = getattr(importlib.import_module(f".{module}", __name__), name)
        with warnings_as_sentences(command.talk.debug):
            code = work(command, call)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return failed("pynode: interrupted.", call.ending.code, as_json)
    except BrokenPipeError:
        return _unread()
    except Unfinished as end:
        return _explain(command, end.__cause__, end.results)
    except (ExplainedError, OSError, ValueError, TypeError) as error:
        return _explain(command, error, None)


def _explain(command, error, results) -> int:
    """Say why a command failed; returns the exit code."""
    if command.talk.debug:
        raise error
    if command.talk.verbose and hasattr(error, "report"):
        print(error.report(), file=sys.stderr)
    code = 1
    if isinstance(error, (ValueError, TypeError)):
        code = 2
    return failed(f"pynode: {_sentence(error)}", code, getattr(command, "json", False), results)


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
