"""The options of a run as a TOML file: ``--config`` reads it, and every run saves its own."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import takewhile
from pathlib import Path
from typing import Any

import tomli_w
from cyclopts.config import Dict

from ..core.files import save_text
from .common import Command, Earlier, Talk

NAME = "config.toml"
# What belongs to one call, not to the run that it describes.
_OF_A_CALL = (Earlier, Talk)


def config_of(words: Sequence[str]) -> Dict | None:
    """The options in the file that --config names among the words of a command line; None without
    one. Raises OSError if the file does not exist, ValueError if it is no TOML."""
    path = None
    for place, word in enumerate(words):
        if word == "--config" and place + 1 < len(words):
            path = words[place + 1]
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
    if path is None:
        return None
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path} for --config: check the name.")
    try:
        options = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no TOML file: {error}") from None
    # The file has the options of one command, which cyclopts looks for under its name.
    command = list(takewhile(lambda word: not word.startswith("-"), words))[:2]
    if command[:1] != ["julia"]:
        command = command[:1]
    for name in reversed(command):
        options = {name: options}
    return Dict(options, source=path)


def save_config(
    command: Command,
    name: str,
    folder: Path,
    resumed: bool,
    chosen: Mapping[str, Any] | None = None,
) -> Path:
    """Write the options that somebody gave to FOLDER/config.toml, so that ``pynode NAME --config``
    repeats the run. Returns the path.

    resumed: keep the earlier options in that file, too. chosen: options that the run chose itself,
    which become comments.
    """
    path = folder / NAME
    given = _given(command)
    if resumed and path.is_file():
        given = {**tomllib.loads(path.read_text(encoding="utf-8")), **given}
    lines = [f"# pynode {name} --config {folder / NAME}", "", tomli_w.dumps(_plain(given))]
    others = {key: value for key, value in (chosen or {}).items() if key not in given}
    if others:
        lines.append("# What pynode chose by itself:")
        lines += [f"# {line}" for line in tomli_w.dumps(_plain(others)).splitlines()]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_text(path, "\n".join(lines).rstrip() + "\n")
    return path


def _given(record: Any) -> dict[str, Any]:
    """The options that somebody gave, of a command and of all its groups."""
    found: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, _OF_A_CALL) or field.name == "json":
            continue
        if hasattr(value, "given"):
            found |= _given(value)
        elif field.name in record.given:
            found[field.name] = value
    return found


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as TOML has them, which knows no null."""
    plain = {}
    for name, value in options.items():
        if value is None or value == math.inf:
            continue
        if isinstance(value, tuple):
            value = list(value)
        if isinstance(value, Path):
            value = str(value)
        plain[name] = value
    return plain
