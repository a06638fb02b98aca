"""What a first run on a GPU must show, in eight minutes: tests, synchronisations, small operations,
float32, compiled steps, where the time goes, batches beside diffrax, a million rows, Julia.

Each stage is a process with a time of its own, so that a failure or a hang ends only itself, and
each line of results is on the screen and in OUT/gpu_list.jsonl as soon as it is there.
--device cpu runs the same in small. `make gpu` finds or makes the environment.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import report

ROOT = Path(__file__).parent.parent


class Stage(NamedTuple):
    """A command after `python -m`, its seconds, and its arguments in small."""

    name: str
    seconds: float
    command: tuple
    small: tuple


def benchmark(sizes, methods, task):
    """The arguments of the benchmark of batches."""
    return (
        "benchmarks.gpu",
        *("--systems", "robertson", "--rounds", "1", "--tasks", task),
        *("--sizes", *map(str, sizes), "--methods", *methods),
    )


TESTS = (
    *("pytest", "-q", "-p", "no:cacheprovider"),
    *("tests/core/test_device.py", "tests/backends/native/test_cuda_device.py"),
)
METHODS = ("rodas5p", "qndf", "rodas5p, passes", "rodas5p, kernel")
SMALL = METHODS[:3]  # the kernel needs a GPU
MILLION = ("rodas5p, passes", "rodas5p, kernel", "rodas5p")
STAGES = (
    Stage("tests", 60, TESTS, TESTS),
    *(
        Stage(name, seconds, ("benchmarks.gpu_checks", name), ("benchmarks.gpu_checks", name))
        for name, seconds in (
            ("synchronisations", 20),
            ("operations", 40),
            ("float32", 20),
            ("compiled", 80),
            ("profile", 60),
        )
    ),
    Stage(
        "forward",
        80,
        benchmark((1_000, 100_000), METHODS, "forward"),
        benchmark((20,), SMALL, "forward"),
    ),
    Stage(
        "gradient",
        80,
        benchmark((1_000, 100_000), METHODS, "gradient"),
        benchmark((20,), SMALL, "gradient"),
    ),
    Stage(
        "million",
        60,
        (*benchmark((1_000_000,), MILLION, "forward"), "--no-diffrax"),
        (*benchmark((100,), SMALL[:1], "forward"), "--no-diffrax"),
    ),
    Stage(
        "julia",
        60,
        ("pytest", "-q", "-p", "no:cacheprovider", "-rs", "tests/backends/julia/test_device.py"),
        ("pytest", "-q", "-p", "no:cacheprovider", "-rs", "tests/backends/julia/test_device.py"),
    ),
)


class Record:
    """The lines of all stages, on the screen and in a file at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")

    def add(self, stage: str, **facts) -> None:
        self.file.write(json.dumps({"stage": stage, **facts}, default=str) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def run(stage: Stage, device: str, record: Record) -> bool:
    """Run a stage, and add its lines to the record. Whether it ended well."""
    command = stage.small
    if device == "cuda":
        command = stage.command
    if command[0].startswith("benchmarks"):
        command = (*command, "--device", device)
    print(f"\n== {stage.name} (at most {stage.seconds:.0f} s)", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    # A stage that hangs prints nothing, so the clock runs beside it.
    clock = threading.Timer(stage.seconds, process.kill)
    clock.start()
    for line in process.stdout:
        print(line, end="", flush=True)
        record.add(stage.name, line=line.rstrip())
    code = process.wait()
    clock.cancel()
    taken = round(time.monotonic() - began, 1)
    outcome = {0: "done"}.get(code, f"ended with {code}")
    if taken >= stage.seconds:
        outcome = "stopped: its time was over"
    record.add(stage.name, outcome=outcome, seconds=taken)
    print(f"== {stage.name}: {outcome}, {taken} s", flush=True)
    return code == 0


def main(argv=None) -> int:
    """Run the stages; 1 if one of them did not end well."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_list",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cuda where there is one")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder (out/gpu)")
    parser.add_argument("--stages", nargs="+", choices=[s.name for s in STAGES], help="only these")
    parser.add_argument("--seconds", type=float, default=480.0, help="for all stages (480)")
    args = parser.parse_args(argv)
    device = args.device
    if device is None:
        device = "cpu"
        if torch.cuda.is_available():
            device = "cuda"
    record = Record(args.out / "gpu_list.jsonl")
    report.heading()
    name = "no GPU: the list in small"
    if device == "cuda":
        name = torch.cuda.get_device_name()
    print(name)
    record.add("environment", device=name, cuda=torch.version.cuda, **report.environment())
    # Without a GPU nobody lends the machine for minutes, and it may be a slow one.
    patience = 1.0
    if device == "cpu":
        patience = 3.0
    began = time.monotonic()
    good = True
    for stage in STAGES:
        if args.stages and stage.name not in args.stages:
            continue
        left = args.seconds - (time.monotonic() - began)
        if left < 5:
            record.add(stage.name, outcome="left out: no time is left")
            print(f"== {stage.name}: left out, no time is left")
            continue
        good &= run(stage._replace(seconds=min(left, patience * stage.seconds)), device, record)
    print(f"Written: {args.out / 'gpu_list.jsonl'}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
