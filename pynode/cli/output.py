"""How commands print results and failures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

NO_PLOTS = (
    "No plots were drawn, because matplotlib is not installed: pip install 'torch-stiff-ode[plot]'"
)


class Unfinished(Exception):
    """A command failed after it had results. Its cause says why. results: plain data for --json."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        super().__init__("the command did not finish")
        self.results = results


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
