"""What all commands have in common: the parser, the options that several have, and how they end."""

from __future__ import annotations

import argparse
import json
import re
import sys

from .values import count


class Parser(argparse.ArgumentParser):
    """argparse whose descriptions keep their lines, whose complaints are one sentence, and who
    takes '-1,0' for a value."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._negative_number_matcher = re.compile(r"-[.\d]")

    def error(self, message):
        raise Mistake(f"{self.prog}: {message}; see {self.prog} --help.")


class Mistake(SystemExit):
    """The end of the program, with exit code 2, for a mistake in its options, told by the
    sentence."""

    def __init__(self, sentence):
        super().__init__(2)
        self.sentence = sentence


def finish(own, run, json=None):
    """What every command has, at the end of its own options. run(arguments) -> exit code; json: the
    help of --json."""
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
    """One line of JSON, which has null for what is not finite."""
    plain = json.loads(json.dumps(found), parse_constant=lambda name: None)
    print(json.dumps(plain, allow_nan=False))


def failed(sentence, code, as_json, found=None) -> int:
    """Say in a sentence that a command failed, and on the standard output, if that is for programs,
    with what it found before; returns the exit code."""
    print(sentence, file=sys.stderr)
    if as_json:
        print_json({**(found or {}), "error": sentence.partition(": ")[2], "code": code})
    return code
