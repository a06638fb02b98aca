"""The parser of the command line, and the options that several commands have."""

from __future__ import annotations

import argparse


class Parser(argparse.ArgumentParser):
    """argparse whose descriptions keep their lines, and whose complaints are one sentence."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help.\n")


def finish(own, run, json=None):
    """What every command has, at the end of its own options. run(arguments) -> exit code; json: the help of --json."""
    if json:
        own.add_argument("--json", action="store_true", help=json)
    own.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    loudness = own.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but results and failures")
    loudness.add_argument("-v", "--verbose", action="store_true", help="explain a solve that fails on a page")
    own.set_defaults(run=run)


def threads(own, remark=""):
    """The option --threads."""
    own.add_argument("--threads", type=int, default=1, metavar="N", help=f"threads of torch{remark} (default: 1)")
