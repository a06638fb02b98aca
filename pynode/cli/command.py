"""The parts that all commands share: the parser, common options, and the way a command ends."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .values import count


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the lines of descriptions, reports an error in one sentence, and
    accepts '-1,0' as a value."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._negative_number_matcher = re.compile(r"-[.\d]")

    def error(self, message: str) -> NoReturn:
        raise Mistake(f"{self.prog}: {message}; see {self.prog} --help.")


class Mistake(SystemExit):
    """Ends the program with exit code 2 after a mistake in its options. sentence: the message."""

    def __init__(self, sentence: str) -> None:
        super().__init__(2)
        self.sentence = sentence


def finish(
    own: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    json_help: str | None = None,
) -> None:
    """Add the options that every command has, after its own options.

    run(arguments) -> exit code; json_help: the help of --json.
    """
    if json_help:
        own.add_argument("--json", action="store_true", help=json_help)
    own.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    loudness = own.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q", "--quiet", action="store_true", help="print only results and failures"
    )
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="explain a failed solve on one page"
    )
    own.set_defaults(run=run)


def threads(own: argparse._ActionsContainer, remark: str = "") -> None:
    """The option --threads."""
    own.add_argument(
        "--threads",
        type=count(1),
        default=1,
        metavar="N",
        help=f"number of torch threads{remark} (default: 1)",
    )


def print_json(results: Any) -> None:
    """Print one line of JSON; a number that is not finite becomes null."""
    plain = json.loads(json.dumps(results), parse_constant=lambda name: None)
    print(json.dumps(plain, allow_nan=False))


def failed(
    sentence: str, code: int, as_json: bool, results: Mapping[str, Any] | None = None
) -> int:
    """Print the sentence of a failure to stderr. With as_json, also print an object to stdout that
    contains the results so far. Returns the exit code."""
    print(sentence, file=sys.stderr)
    if as_json:
        print_json({**(results or {}), "error": sentence.partition(": ")[2], "code": code})
    return code
