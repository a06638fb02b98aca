"""The command ``pynode reproduce``: trains, evaluates and draws the set-ups of Kim et al. 2021."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from ..backends.registry import NAMES as BACKENDS
from ..core.files import save_text
from ..train.kim2021 import SETUPS, reproduce
from ..train.progress import SilentProgress, display
from .command import finish, print_json, threads
from .train import draw
from .values import NO_PLOTS, count, names

ABOUT = """\
Train the set-ups of Kim et al. 2021 (Stiff neural ordinary differential equations, Chaos 31,
093122). A tight solve of the true system makes the data. The training "paper" uses the network,
the scaling and the optimiser of the paper, with FBDF. The training "kit" uses the same network and
data with the training kit of this package. The result shows the error of every state in two
measures, and the cost of one solve by an explicit method.
"""
FILES = """\
files written to --out: result.txt with the tables, and one folder per training with the files of
pynode train.

examples:
  pynode reproduce robertson
  pynode reproduce pollution --trainings paper --epochs 5000
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode reproduce'."""
    own.description = ABOUT
    own.epilog = FILES
    own.add_argument("setup", choices=tuple(SETUPS), help="name of the set-up")
    own.add_argument(
        "--trainings",
        type=names,
        default=("paper", "kit"),
        metavar="NAMES",
        help="paper, kit or both, separated by a comma (default: both)",
    )
    own.add_argument(
        "--epochs",
        type=count(0),
        metavar="N",
        help="epochs of Adam (default: a number that takes minutes)",
    )
    own.add_argument("--polish", type=count(0), metavar="N", help="epochs of Levenberg-Marquardt")
    own.add_argument("--seed", type=count(0), metavar="N", help="seed of the weights")
    own.add_argument(
        "--max-nfe",
        type=count(0),
        default=20_000,
        metavar="N",
        help=(
            "maximum number of evaluations of each single solve; 0 skips these solves (default:"
            " %(default)s)"
        ),
    )
    own.add_argument(
        "--backend",
        choices=BACKENDS,
        help="engine of all solves (default: native code where it serves, else torch)",
    )
    own.add_argument(
        "--out", metavar="DIR", help="folder for the files (default: out/kim2021-NAME)"
    )
    threads(own)
    finish(own, _reproduce, "print losses, errors, costs and files as one JSON object at the end")


def _reproduce(arguments) -> int:
    torch.set_num_threads(arguments.threads)
    out = Path(arguments.out or f"out/kim2021-{arguments.setup}")
    changes = {name: getattr(arguments, name) for name in ("epochs", "polish", "seed", "backend")}
    changes = {name: value for name, value in changes.items() if value is not None}
    silent = arguments.quiet or arguments.json
    result = reproduce(
        arguments.setup,
        out,
        arguments.trainings,
        arguments.max_nfe,
        SilentProgress if silent else display,
        None if silent else partial(print, flush=True),
        **changes,
    )
    written = [out / "result.txt"]
    notes: list[str] = []
    save_text(written[0], f"{result}\n")
    try:
        for name, run in result.fits.items():
            written += draw(run, result.data, out / name)
    except ImportError:
        notes.append(NO_PLOTS)
    if arguments.json:
        print_json(_plain(result, written))
    else:
        print(f"\n{result}\n", *notes, "Written: " + ", ".join(map(str, written)), sep="\n")
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
