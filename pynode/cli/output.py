"""How commands print results and failures."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

NO_PLOTS = (
    "No plots were drawn, because matplotlib is not installed: pip install 'torch-stiff-ode[plot]'"
)


class Unfinished(Exception):
    """A command failed after it had results. Its cause says why. results: plain data for --json."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        super().__init__("the command did not finish")
        self.results = results


def sentence(text: str, stream: TextIO | None = None) -> None:
    """Print a sentence. In a terminal its lines end between words; in a file it is one line."""
    stream = stream or sys.stdout
    if stream.isatty():
        width = shutil.get_terminal_size().columns
        lines = text.splitlines()
        text = "\n".join(textwrap.fill(line, width, break_long_words=False) for line in lines)
    print(text, file=stream, flush=True)


def files_written(paths: Sequence[str | Path]) -> str:
    """Which files were written, their common folder named once."""
    files = [Path(path) for path in paths]
    folder = files[0].parent
    if len(files) == 1 or any(file.parent != folder for file in files):
        return "Written: " + ", ".join(map(str, files))
    return f"Written to {folder}: " + ", ".join(file.name for file in files)


def print_json(results: Any) -> None:
    """Print one line of JSON; a number that is not finite becomes null."""
    plain = json.loads(json.dumps(results), parse_constant=lambda name: None)
    print(json.dumps(plain, allow_nan=False))


@contextmanager
def warnings_as_sentences(plain: bool) -> Iterator[None]:
    """Within: each warning is a sentence on stderr, once, without the place in the code that gave
    it. plain: leave warnings as Python shows them."""
    if plain:
        yield
        return
    told: set[str] = set()

    def tell(message: Any, *rest: Any, **more: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            sentence(f"Note: {message}", sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def failed(text: str, code: int, as_json: bool, results: Mapping[str, Any] | None = None) -> int:
    """Print the sentence of a failure to stderr. With as_json, also print an object to stdout that
    contains the results so far. Returns the exit code."""
    sentence(text, sys.stderr)
    if as_json:
        print_json({**(results or {}), "error": text.partition(": ")[2], "code": code})
    return code
