"""The command ``pynode data``."""

from __future__ import annotations

from pathlib import Path

from ..data import read
from ..data.picture import plot_data
from ..data.summary import summarise
from .call import Call
from .commands.data import Data
from .output import NO_PLOTS, files_written, print_json


def run(command: Data, call: Call) -> int:
    """Read, say and draw; returns the exit code."""
    found = read(command.data, keep_constant=True, **command.columns.as_arguments())
    summary = summarise(found)
    name = "stdin"
    if command.data != "-":
        name = Path(command.data).name.partition(".")[0]
    path = command.out or Path("out") / f"data-{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    try:
        written.append(str(plot_data(path, found)))
    except ImportError:
        command.talk.say(NO_PLOTS)
    if command.json:
        print_json({"data": command.data, **summary.as_dict(), "files": written})
        return 0
    print(f"{command.data}:")
    print(summary)
    if written:
        command.talk.say(files_written(written))
    return 0
