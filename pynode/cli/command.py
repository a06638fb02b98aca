"""The parts that all commands share: the parser, common options, and the way a command ends."""

from __future__ import annotations

import argparse
import json
import re
import sys

from .values import count


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the lines of descriptions, reports an error in one sentence, and
    accepts '-1,0' as a value."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._negative_number_matcher = re.compile(r"-[.\d]")

    def error(self, message):
        raise Mistake(f"{self.prog}: {message}; see {self.prog} --help.")


class Mistake(SystemExit):
    """Ends the program with exit code 2 after a mistake in its options. sentence: the message."""

    def __init__(self, sentence):
        super().__init__(2)
        self.sentence = sentence


def finish(own, run, json=None):
    """Add the options that every command has, after its own options.

    run(arguments) -> exit code; json: the help of --json.
    """
    if json:
        own.add_argument("--json", action="store_true", help=json)
    own.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    loudness = own.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q", "--quiet", action="store_true", help="print only results and failures"
    )
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="explain a failed solve on one page"
    )
    own.set_defaults(run=run)


def threads(own, remark=""):
    """The option --threads."""
    own.add_argument(
        "--threads",
        type=count(1),
        default=1,
        metavar="N",
        help=f"number of torch threads{remark} (default: 1)",
    )


def print_json(found):
    """Print one line of JSON; a number that is not finite becomes null."""
    plain = json.loads(json.dumps(found), parse_constant=lambda name: None)
    print(json.dumps(plain, allow_nan=False))


def failed(sentence, code, as_json, found=None) -> int:
    """Print the sentence of a failure to stderr. With as_json, also print an object to stdout that
    contains the results so far (found). Returns the exit code."""
    print(sentence, file=sys.stderr)
    if as_json:
        print_json({**(found or {}), "error": sentence.partition(": ")[2], "code": code})
    return code
