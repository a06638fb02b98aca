"""The command ``pynode diagnose``."""

from __future__ import annotations

import torch

from ..diagnosis import diagnose
from .call import Call
from .commands.diagnose import Diagnose
from .output import NO_PLOTS, files_written, print_json
from .targets import target


def run(command: Diagnose, call: Call) -> int:
    """Examine and tell; returns the exit code."""
    torch.set_num_threads(command.threads.threads)
    problem = target(command.target)
    diagnosis = diagnose(
        problem,
        rtol=command.rtol,
        atol=command.atol,
        trials=not command.no_trials,
        max_seconds=command.seconds,
        backend=command.backend,
    )
    if command.json:
        print_json(diagnosis.as_dict())
    else:
        print(diagnosis)
    if command.out is not None:
        written = _write(diagnosis, command.out, command.talk)
        command.talk.say(files_written(written))
    return 0


def _write(diagnosis, out, talk) -> list:
    out.mkdir(parents=True, exist_ok=True)
    written = [diagnosis.to_json(out / f"diagnosis-{diagnosis.name}.json")]
    try:
        written.append(diagnosis.plot(out / f"diagnosis-{diagnosis.name}.png"))
    except ImportError:
        talk.say(NO_PLOTS)
    return written
