"""Batches of 1e3 to 1e6 stiff systems on a GPU, forward and gradient: pynode's batched=True beside
diffrax under jax.vmap.

  vanderpol   mu from 1 to 10,000, to t = 10
  robertson   the rate of the second reaction from 1e4 to 1e9, to t = 1e5

Every row has its own stiffness. pynode gives each its own steps and finishes it by itself; vmap
steps all rows until the last one is done. The loss is the mean square of the outputs, each
component divided by its scale. The gradient is with respect to the starts and constants.

  first_s   seconds of the first run, compilation included
  ms        median of --rounds further ones, in turn, on the wall
  ratio     pynode's time over diffrax's in the same row
  rows/s    rows solved in a second
  error     median over 32 sampled rows of the largest error in units of atol + rtol |y|, against
            Rodas5P at a thousandth of the tolerances; of a gradient: its largest difference from
            diffrax's, relative to the largest entry
  peak_MB   of pynode, as torch's allocator on the GPU tells
  failed    rows that did not reach the end

Each contestant runs in a process of its own, so that none holds memory that another one needs. Each
row is printed and saved as soon as it is there. Running out of memory, or of --limit seconds, is a
note; larger batches are then left out. --device cpu --sizes 10 100 shows it without a GPU.
"""

from benchmarks.pairs import CLOCKS
from pynode.methods.registry import get

import argparse  # isort: skip
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

from benchmarks import batched, report
from benchmarks.peers.diffrax import DiffraxBatch
from pynode import NativeBackend, TorchBackend
from pynode.solve import solve

# Behind the name of a method: with compile=True, or by which engine.
COMPILED = ", compiled"
ENGINES = {
    ", passes": TorchBackend(passes=16),
    ", kernel": NativeBackend(device="cuda"),
}
METHODS = ("qndf", "rodas5p", *("rodas5p" + suffix for suffix in (COMPILED, *ENGINES)))
PEER = "diffrax Kvaerno5"
METHODS_AND_PEER = (*METHODS, PEER)
TASKS = ("forward", "gradient")
ROOT = Path(__file__).parent.parent
SIZES = (1_000, 10_000, 100_000, 1_000_000)
JAX_NAMES = {"cuda": "gpu", "cpu": "cpu"}
SPANS = {"vanderpol": 10.0, "robertson": 1e5}
SCALES = {"vanderpol": (2.0, 1e4), "robertson": (1.0, 1e-4, 1.0)}
MEMORY = ("out of memory", "resource_exhausted", "can't allocate memory", "not enough memory")


def reaction(t, y, k2):
    """Robertson's reaction: y (..., 3) and k2 (...)."""
    a, b, c = y.unbind(-1)
    first, second, third = 0.04 * a, k2 * b * b, 1e4 * b * c
    return torch.stack((third - first, first - third - second, second), -1)


class Reactions(batched.Batch):
    """Robertson's reactions with k2 from 1e4 to 1e9."""

    field, start = staticmethod(reaction), (1.0, 0.0, 0.0)

    def spread(self, rows: int):
        return torch.logspace(4, 9, rows, dtype=torch.float64)

    def times(self, span: float):
        return torch.cat(
            (
                torch.zeros(1, dtype=torch.float64),
                span * torch.logspace(-9, 0, 10, dtype=torch.float64),
            )
        )


SYSTEMS = {"vanderpol": batched.Batch, "robertson": Reactions}


def twin(name: str):
    """The field of one row in JAX."""
    from jax import numpy as jnp

    def reaction(t, y, k2):
        first, second, third = 0.04 * y[0], k2 * y[1] * y[1], 1e4 * y[1] * y[2]
        return jnp.stack((third - first, first - third - second, second))

    return {"vanderpol": batched.twin, "robertson": reaction}[name]


class Called(torch.nn.Module):
    """A function as a module, which keeps what was compiled."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


called = functools.cache(Called)


class Pynode:
    """One of pynode's methods on a batch; forward and gradient return what DiffraxBatch's do."""

    def __init__(self, batch, method: str, scale, device: str):
        self.batch = batch
        self.compile = method.endswith(COMPILED)
        self.method = method.removesuffix(COMPILED)
        self.field = batch.field
        if self.compile:
            self.field = called(batch.field)
        self.backend: str | TorchBackend | NativeBackend = "torch"
        for suffix, engine in ENGINES.items():
            if self.method.endswith(suffix):
                self.method = self.method.removesuffix(suffix)
                self.backend = engine
        self.y0, self.constants = batch.y0.to(device), batch.constants.to(device)
        self.scale = self.y0.new_tensor(scale)

    def _solve(self, y0, constants):
        batch = self.batch
        return solve(
            self.field,
            y0,
            batch.t.tolist(),
            args=(constants,),
            method=get(self.method, compile=self.compile),
            backend=self.backend,
            rtol=batch.rtol,
            atol=batch.atol,
            batched=True,
            throw=False,
        )

    @staticmethod
    def _ended(states) -> int:
        """Rows that did not reach the end, whose last states are NaN; the number waits for the
        device."""
        return int(states[-1].detach().isnan().any(-1).sum())

    def forward(self):
        with torch.no_grad():
            states = self._solve(self.y0, self.constants).y
        return states[1:].cpu().numpy(), self._ended(states)

    def gradient(self):
        given = [x.clone().requires_grad_() for x in (self.y0, self.constants)]
        states = self._solve(*given).y
        grads = torch.autograd.grad((states[1:] / self.scale).square().mean(), given)
        return [part.cpu().numpy() for part in grads], self._ended(states)


def reason(error: BaseException) -> str:
    """What a run that failed is told with; memory that ran out is so called whoever raised it."""
    text = str(error)
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(
        word in text.lower() for word in MEMORY
    ):
        return "out of memory"
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"[:60]


def contestant(label: str, name: str, size: int, args):
    """What solves a batch: its forward and its gradient. Making it may run out of memory."""
    batch = SYSTEMS[name](size, 32, SPANS[name], args.rtol)
    scale = SCALES[name]
    if label != PEER:
        return batch, Pynode(batch, label, scale, args.device)
    return batch, DiffraxBatch(
        twin(name),
        batch.y0,
        batch.constants,
        batch.t,
        "Kvaerno5",
        batch.rtol,
        batch.atol,
        scale,
        args.max_steps,
        JAX_NAMES[args.device],
    )


def measure(label: str, name: str, task: str, size: int, args) -> dict:
    """One row of the table; what was found goes into a file of args.folder, for the errors."""
    row = {"system": name, "rows": size, "task": task, "contestant": label}
    if args.device == "cuda" and label != PEER:  # JAX has an allocator of its own
        torch.zeros(1, device="cuda")
        torch.cuda.reset_peak_memory_stats()
    try:
        batch, solver = contestant(label, name, size, args)
        work = getattr(solver, task)
        began = CLOCKS["wall"]()
        found, row["failed"] = work()
        row["first_s"] = CLOCKS["wall"]() - began
        times = []
        for _ in range(args.rounds):
            began = CLOCKS[args.clock]()
            work()
            times.append(CLOCKS[args.clock]() - began)
    # A batch too large for the memory, or a peer with ways of its own, ends a row and not the
    # table.
    except Exception as error:
        row["note"] = reason(error)
        return row
    median = statistics.median(times)
    row.update({"ms": 1e3 * median, "rows/s": size / median})
    if args.device == "cuda" and label != PEER:
        row["peak_MB"] = torch.cuda.max_memory_allocated() / 1e6
    if task == "forward":
        found = [found[:, batch.sample.numpy()]]
    np.savez(result_file(args.folder, row), *found)
    return row


def result_file(folder: Path, row: dict) -> Path:
    """Where the result of a row lies."""
    words = (row["system"], row["task"], row["rows"], METHODS_AND_PEER.index(row["contestant"]))
    return folder / ("-".join(map(str, words)) + ".npz")


def one(args) -> None:
    """In a process of its own: a contestant on one system and task, a line of JSON a size."""
    label, name, task = args.one
    for size in sorted(args.sizes):
        row = measure(label, name, task, size, args)
        print(json.dumps(row), flush=True)
        if "note" in row or row["first_s"] > args.limit:
            return


def rows_of(label: str, name: str, task: str, args):
    """The rows of one contestant, from its process, as they come."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", label, name, task]
    command += ["--sizes", *map(str, args.sizes), "--device", args.device]
    command += ["--rtol", str(args.rtol), "--rounds", str(args.rounds)]
    command += ["--limit", str(args.limit), "--max-steps", str(args.max_steps)]
    command += ["--folder", str(args.folder)]
    if args.clock == "wall":
        command.append("--wall")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    # Beside the first run of a size there are the further rounds.
    patience = args.limit * (2 + args.rounds) * len(args.sizes)
    clock = threading.Timer(patience, process.kill)
    clock.start()
    done = 0
    for line in process.stdout:
        if line.startswith("{"):
            done += 1
            yield json.loads(line)
    code = process.wait()
    clock.cancel()
    if code != 0:
        row = {"system": name, "task": task, "contestant": label}
        yield {**row, "rows": sorted(args.sizes)[done], "note": f"the process ended with {code}"}


def add_error(row: dict, peers: dict, references: dict, args) -> None:
    """Add the error of what was found: against a reference, of a gradient against diffrax's."""
    path = result_file(args.folder, row)
    if not path.exists():
        return
    found = list(np.load(path).values())
    name, size = row["system"], row["rows"]
    if row["task"] == "forward":
        if (name, size) not in references:
            batch = SYSTEMS[name](size, 32, SPANS[name], args.rtol)
            references[name, size] = batch, batch.reference()[1:]
        batch, reference = references[name, size]
        row["error"] = batch.errors(torch.from_numpy(found[0].copy()), reference)["error"]
    elif row["contestant"] == PEER:
        peers[name, size] = found
    elif (name, size) in peers:
        pairs = zip(found, peers[name, size], strict=True)
        row["error"] = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


COLUMNS = (
    "system",
    "rows",
    "contestant",
    "first_s",
    "ms",
    "ratio",
    "rows/s",
    "error",
    "peak_MB",
    "failed",
    "note",
)


def compare(args) -> list:
    """All rows. Each one is printed and saved as soon as it is there."""
    rows = []
    peers: dict = {}
    medians: dict = {}
    references: dict = {}
    # Diffrax first, for the ratios.
    labels = ([PEER] if args.diffrax else []) + list(args.methods)
    for name in args.systems:
        for task in args.tasks:
            table = report.GrowingTable(f"{name}, {task}", COLUMNS, {"contestant": len(PEER)})
            for label in labels:
                for row in rows_of(label, name, task, args):
                    place = (name, task, row["rows"])
                    if label == PEER and "ms" in row:
                        medians[place] = row["ms"]
                    if "ms" in row and place in medians:
                        row["ratio"] = row["ms"] / medians[place]
                    add_error(row, peers, references, args)
                    rows.append(row)
                    table.add(row)
                    report.save("gpu", {"gpu": rows}, args, quiet=True)
    return rows


def main(argv=None):
    parser = report.parser(__doc__)
    parser.prog = "python -m benchmarks.gpu"
    parser.add_argument("--device", default="cuda", choices=tuple(JAX_NAMES))
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=SIZES,
        help="rows of a batch (1000 10000 100000 1000000)",
    )
    parser.add_argument("--systems", nargs="+", default=tuple(SYSTEMS), choices=tuple(SYSTEMS))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="pynode's")
    parser.add_argument("--rtol", type=float, default=1e-6, help="atol is a hundredth of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--limit", type=float, default=120.0, help="seconds; larger batches are then left out"
    )
    parser.add_argument(
        "--max-steps",
        type=int,
        default=4096,
        help="diffrax's, by which it allots memory for a gradient",
    )
    parser.add_argument("--no-diffrax", action="store_true", help="pynode alone")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(
            1, "torch sees no GPU here: --device cpu --sizes 10 100 shows the same on the CPU\n"
        )
    if args.device == "cuda":
        args.clock = "wall"
    if args.one:
        one(args)
        return
    args.diffrax = not args.no_diffrax and not report.missing("diffrax") and sees(args.device)
    report.heading()
    if args.device == "cuda":
        print(torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        compare(args)


def sees(device: str) -> bool:
    """Whether JAX has the device; says so where it has not. In a process of its own, since JAX
    takes memory of the GPU when it looks."""
    look = f"import jax; jax.devices({JAX_NAMES[device]!r})"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, check=False)
    if done.returncode == 0:
        return True
    version = (torch.version.cuda or "13").split(".")[0]
    print(f"diffrax: JAX sees no GPU (pip install 'jax[cuda{version}]')")
    return False


if __name__ == "__main__":
    main()
