"""The command ``pynode reproduce``: trains, evaluates and draws the set-ups of Kim et al. 2021."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from ..core.files import save_text
from ..train.kim2021 import reproduce
from ..train.progress import SilentProgress, display
from .call import Call
from .commands.reproduce import Reproduce
from .config import save_config
from .output import NO_PLOTS, files_written, print_json
from .train import draw


def run(command: Reproduce, call: Call) -> int:
    """Train, evaluate and draw; returns the exit code."""
    torch.set_num_threads(command.threads.threads)
    out = command.out or Path(f"out/kim2021-{command.setup}")
    changes = {name: getattr(command, name) for name in ("epochs", "polish", "seed", "backend")}
    changes = {name: value for name, value in changes.items() if value is not None}
    shown = display
    if command.talk.quiet:
        shown = SilentProgress
    result = reproduce(
        command.setup,
        out,
        command.trainings,
        command.max_nfe,
        shown,
        command.talk.say,
        **changes,
    )
    save_text(out / "result.txt", f"{result}\n")
    written = [out / "result.txt", save_config(command, "reproduce", out, resumed=False)]
    try:
        for name, trained in result.fits.items():
            written += draw(trained, result.data, out / name)
    except ImportError:
        command.talk.say(NO_PLOTS)
    if command.json:
        print_json(_plain(result, written))
    else:
        print(result)
    command.talk.say(files_written(written))
    return 0


def _plain(result, written) -> dict:
    trainings = {
        name: {
            "best": run.best,
            "backend": run.backend,
            "epochs": run.history[-1]["epoch"],
            "seconds": run.history[-1]["seconds"],
            **asdict(result.accuracies[name]),
        }
        for name, run in result.fits.items()
    }
    return {
        "trainings": trainings,
        "costs": [asdict(cost) for cost in result.costs],
        "files": list(map(str, written)),
    }
