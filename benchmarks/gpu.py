"""Batches of 1e3 to 1e6 stiff systems on a GPU, forward and gradient: pynode's batched=True beside
diffrax under jax.vmap.

  vanderpol   mu from 1 to 10,000, to t = 10
  robertson   the rate of the second reaction from 1e4 to 1e9, to t = 1e5

Every row has its own stiffness. pynode gives each its own steps and finishes it by itself; vmap
steps all rows until the last one is done. The loss is the mean square of the outputs, each
component divided by its scale. The gradient is with respect to the starts and constants.

  first_s   seconds of the first run, compilation included
  ms        median of --rounds further ones, on the wall
  ratio     pynode's time over diffrax's in the same row
  rows/s    rows solved in a second
  error     of 32 sampled rows: the median of the largest errors in units of atol + rtol |y|,
            against Rodas5P at a thousandth of the tolerances; of a gradient: its largest difference
            from diffrax's, relative to the largest entry
  peak_MB   of pynode, as torch's allocator on the GPU tells
  failed    rows that did not reach the end

Each contestant has a process of its own, and so the whole memory of the GPU. Every result is
printed and written into gpu.jsonl as it comes: --minutes after the start the rest is left out.
Running out of memory, or of --limit seconds, is a note, and larger batches are then left out.
--device cpu --sizes 10 100 shows it without a GPU.
"""

from benchmarks.pairs import CLOCKS
from pynode.methods.registry import get

import argparse  # isort: skip
import functools
import json
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

from benchmarks import batched, report
from benchmarks.peers.diffrax import DiffraxBatch, load
from pynode import NativeBackend, TorchBackend, solve

# Behind the name of a method: with compile=True, or by which engine.
COMPILED = ", compiled"
ENGINES = {
    ", passes": TorchBackend(passes=16),
    ", kernel": NativeBackend(device="cuda"),
}
METHODS = ("qndf", "rodas5p", *("rodas5p" + suffix for suffix in (COMPILED, *ENGINES)))
TASKS = ("forward", "gradient")
PEER = "diffrax Kvaerno5"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
JAX_NAMES = {"cuda": "gpu", "cpu": "cpu"}
SPANS = {"vanderpol": 10.0, "robertson": 1e5}
SCALES = {"vanderpol": (2.0, 1e4), "robertson": (1.0, 1e-4, 1.0)}
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
LEFT_OUT = "left out: a smaller batch ended early"
MARK = "row "  # begins the lines that one process writes for the other
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


def attempt(run, row: dict, device: str):
    """What one run returned, or None with a note in the row."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = CLOCKS["wall"]()
    try:
        found, row["failed"] = run()
    # A batch too large for the memory, or a peer with ways of its own, ends a row and not the
    # table.
    except Exception as error:
        row["note"] = reason(error)
        return None
    row["first_s"] = CLOCKS["wall"]() - began
    if device == "cuda" and row["contestant"] != PEER:  # JAX has an allocator of its own
        row["peak_MB"] = torch.cuda.max_memory_allocated() / 1e6
    return found


def made(contestant: str, name: str, batch, args):
    """The contestant on a batch; this may run out of memory, too."""
    if contestant != PEER:
        return Pynode(batch, contestant, SCALES[name], args.device)
    check_jax(args.device)
    return DiffraxBatch(
        twin(name),
        batch.y0,
        batch.constants,
        batch.t,
        "Kvaerno5",
        batch.rtol,
        batch.atol,
        SCALES[name],
        args.max_steps,
        JAX_NAMES[args.device],
    )


def check_jax(device: str) -> None:
    """Raises RuntimeError if JAX does not see the device."""
    _, jax, _ = load()
    try:
        jax.devices(JAX_NAMES[device])
    except RuntimeError:
        version = (torch.version.cuda or "12").split(".")[0]
        raise RuntimeError(f"JAX sees no GPU: pip install 'jax[cuda{version}]'") from None


def climb(contestant: str, name: str, task: str, args):
    """Yields (row, sampled results or None) of one contestant for each size, the smallest
    first."""
    ended = False
    for size in sorted(args.sizes):
        row = {"system": name, "rows": size, "task": task, "contestant": contestant}
        if ended:
            row["note"] = LEFT_OUT
            yield row, None
            continue
        batch = SYSTEMS[name](size, 32, SPANS[name], args.rtol)
        run = None

        def first(batch=batch):
            nonlocal run
            run = getattr(made(contestant, name, batch, args), task)
            return run()

        found = attempt(first, row, args.device)
        ended = found is None or row["first_s"] > args.limit
        if found is not None:
            found = sampled(found, batch, task)
        if not ended:
            again(run, row, size, args)
        yield row, found


def again(run, row: dict, size: int, args) -> None:
    """Adds the time of further runs to the row."""
    times = []
    try:
        for _ in range(args.rounds):
            began = CLOCKS[args.clock]()
            run()
            times.append(CLOCKS[args.clock]() - began)
    except Exception as error:  # beside the memory that the first run still holds
        row["note"] = reason(error)
    if times:
        median = statistics.median(times)
        row.update({"ms": 1e3 * median, "rows/s": size / median})


def sampled(found, batch, task: str) -> list:
    """The results of the sampled rows, arrays."""
    which = batch.sample.numpy()
    if task == "forward":
        return [found[:, which].copy()]
    return [part[which].copy() for part in found]


def work(args) -> None:
    """One contestant, in a process of its own: a line of JSON for each row, and its results in a
    file beside."""
    contestant, name, task, folder = args.worker
    for row, found in climb(contestant, name, task, args):
        if found is not None:
            row["results"] = str(Path(folder) / f"{row['rows']}.npz")
            np.savez(row["results"], *found)
        print(MARK + json.dumps(row), flush=True)


def lines_of(process, seconds: float):
    """Yields the lines of a process as they come. Ends it after so many seconds."""
    found: queue.Queue = queue.Queue()

    def read():
        for line in process.stdout:
            found.put(line)
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    end = CLOCKS["wall"]() + seconds
    while True:
        try:
            line = found.get(timeout=max(0.0, end - CLOCKS["wall"]()))
        except queue.Empty:
            process.kill()
            return
        if line is None:
            return
        yield line


def compete(contestant: str, name: str, task: str, given: list, args, seconds: float):
    """Yields (row, results) of a process of the contestant; a row with a note for each size that
    it did not come to."""
    left = sorted(args.sizes)
    end = CLOCKS["wall"]() + seconds
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.gpu", *given]
        command += ["--worker", contestant, name, task, folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in lines_of(process, seconds):
            if not line.startswith(MARK):
                continue
            row = json.loads(line.removeprefix(MARK))
            left.remove(row["rows"])
            results = None
            if "results" in row:
                with np.load(row.pop("results")) as stored:
                    results = [stored[key] for key in stored.files]
            yield row, results
        code = process.wait()
    late = CLOCKS["wall"]() >= end
    note = f"the process ended with {code}"
    if late:
        note = "left out: the time is up"
    for size in left:
        row = {"system": name, "rows": size, "task": task, "contestant": contestant}
        yield {**row, "note": note}, None


@functools.cache
def references(name: str, size: int, rtol: float) -> tuple:
    """(batch, its sampled rows, solved a thousand times as accurately)."""
    batch = SYSTEMS[name](size, 32, SPANS[name], rtol)
    return batch, batch.reference()[1:]


def describe(row: dict, results: list, peers: dict, args) -> None:
    """Add to a row its error and its ratio to diffrax. peers: {size: (row, results)} of
    diffrax."""
    size = row["rows"]
    task = row["task"]
    peer, expected = peers.get(size, ({}, None))
    if row.get("ms") and peer.get("ms"):
        row["ratio"] = row["ms"] / peer["ms"]
    if results is None:
        return
    if task == "forward":
        batch, reference = references(row["system"], size, args.rtol)
        row["error"] = batch.errors(torch.from_numpy(results[0]), reference)["error"]
    elif expected is not None and row["contestant"] != PEER:
        row["error"] = max(
            float(np.abs(a - b).max() / np.abs(b).max())
            for a, b in zip(results, expected, strict=True)
        )


def main(argv=None):
    if argv is None:
        argv = sys.argv[1:]
    given = list(argv)
    args = arguments(given)
    if args.worker:
        work(args)
        return
    report.heading()
    if args.device == "cuda":
        print(torch.cuda.get_device_name())
    contestants = [*args.methods]
    if not args.no_diffrax and not report.missing("diffrax"):
        contestants.insert(0, PEER)  # the others are compared with it
    end = CLOCKS["wall"]() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with (args.out / "gpu.jsonl").open("w") as log:
        for task in args.tasks:
            for name in args.systems:
                peers = {}
                for contestant in contestants:
                    left = end - CLOCKS["wall"]()
                    for row, results in compete(contestant, name, task, given, args, left):
                        if contestant == PEER:
                            peers[row["rows"]] = row, results
                        describe(row, results, peers, args)
                        print(json.dumps(row), flush=True)
                        log.write(json.dumps(row) + "\n")
                        log.flush()
                        rows.append(row)
    for task in args.tasks:
        report.table(task, [row for row in rows if row["task"] == task], COLUMNS)
    report.save("gpu", {"gpu": rows}, args)


def arguments(given: list):
    """The arguments of the command, checked."""
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
    parser.add_argument("--methods", nargs="+", default=METHODS, help="pynode's")
    parser.add_argument("--rtol", type=float, default=1e-6, help="atol is a hundredth of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds; larger batches are then left out"
    )
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="for everything; the rest is then left out"
    )
    parser.add_argument(
        "--max-steps",
        type=int,
        default=4096,
        help="diffrax's, by which it allots memory for a gradient",
    )
    parser.add_argument("--no-diffrax", action="store_true", help="pynode alone")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(
            1, "torch sees no GPU here: --device cpu --sizes 10 100 shows the same on the CPU\n"
        )
    if args.device == "cuda":
        args.clock = "wall"
    return args


if __name__ == "__main__":
    main()
