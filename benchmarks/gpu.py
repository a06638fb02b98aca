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

Running out of memory, or of --limit seconds, is a note; larger batches are then left out. --device
cpu --sizes 10 100 shows it without a GPU. The two frameworks share the memory of the GPU: JAX takes
it as it needs it, not in advance.
"""

from benchmarks.pairs import CLOCKS
from pynode.methods.registry import get

import functools  # isort: skip
import gc
import os
import statistics

import numpy as np
import torch

from benchmarks import batched, report
from benchmarks.peers.diffrax import DiffraxBatch, load
from pynode.solve import solve

COMPILED = ", compiled"  # behind the name of a method: with compile=True
METHODS = ("qndf", "rodas5p", "rodas5p" + COMPILED)
PEER = "diffrax Kvaerno5"
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
        self.batch, self.device, self.compile = batch, device, method.endswith(COMPILED)
        self.method, self.field = (
            method.removesuffix(COMPILED),
            called(batch.field) if self.compile else batch.field,
        )
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


def solvers(name: str, size: int, args) -> tuple:
    """(batch, {contestant: function that makes it}); making one may run out of memory too."""
    batch, scale = SYSTEMS[name](size, 32, SPANS[name], args.rtol), SCALES[name]
    made = {
        method: lambda method=method: Pynode(batch, method, scale, args.device)
        for method in args.methods
    }
    if args.diffrax:
        made[PEER] = lambda: DiffraxBatch(
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
    return batch, made


def measure(name: str, size: int, task: str, args, ended: set) -> list:
    """One row a contestant; ended: those that stopped at a smaller batch, to which this one
    adds."""
    batch, made = solvers(name, size, args)
    rows, running, found = [], {}, {}
    for label, make in made.items():
        row = {"system": name, "rows": size, "task": task, "contestant": label}
        rows.append(row)
        if label in ended:
            row["note"] = "left out: a smaller batch ended early"
            continue
        result = attempt(
            lambda make=make, label=label: running.setdefault(label, getattr(make(), task))(),
            row,
            args.device,
        )
        if result is None or row["first_s"] > args.limit:
            ended.add(label)
            running.pop(label, None)
        if result is not None:
            found[label] = result
    describe(rows, found, batch, task)
    times = {label: [] for label in running}
    gc.collect()
    for _ in range(args.rounds):
        for label, run in list(running.items()):
            began = CLOCKS[args.clock]()
            try:
                run()
                times[label].append(CLOCKS[args.clock]() - began)
            except Exception as error:  # beside the memory that the others hold
                next(row for row in rows if row["contestant"] == label)["note"] = reason(error)
                del running[label]
    medians = {label: statistics.median(taken) for label, taken in times.items() if taken}
    for row in rows:
        if row["contestant"] in medians:
            median = medians[row["contestant"]]
            row.update({"ms": 1e3 * median, "rows/s": size / median})
            row["ratio"] = median / medians[PEER] if PEER in medians else None
    return rows


def describe(rows: list, found: dict, batch, task: str):
    """Add to the rows the errors of what was found."""
    reference = batch.reference()[1:] if task == "forward" else found.get(PEER)
    for row in rows:
        result = found.get(row["contestant"])
        if result is None or reference is None:
            continue
        if task == "forward":
            row["error"] = batch.errors(
                torch.from_numpy(result[:, batch.sample.numpy()].copy()), reference
            )["error"]
        elif row["contestant"] != PEER:
            row["error"] = max(
                float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(result, reference)
            )


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
    parser.add_argument("--methods", nargs="+", default=METHODS, help="pynode's")
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
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(
            1, "torch sees no GPU here: --device cpu --sizes 10 100 shows the same on the CPU\n"
        )
    if args.device == "cuda":
        args.clock = "wall"
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    args.diffrax = not args.no_diffrax and not report.missing("diffrax") and sees(args.device)
    report.heading()
    if args.device == "cuda":
        print(torch.cuda.get_device_name())
    rows = []
    for name in args.systems:
        for task in ("forward", "gradient"):
            ended = set()
            for size in sorted(args.sizes):
                report.progress(name, task, size)
                rows += measure(name, size, task, args, ended)
    columns = (
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
    for task in ("forward", "gradient"):
        report.table(task, [row for row in rows if row["task"] == task], columns)
    report.save("gpu", {"gpu": rows}, args)


def sees(device: str) -> bool:
    """Whether JAX has the device; says so where it has not."""
    _, jax, _ = load()
    try:
        jax.devices(JAX_NAMES[device])
    except RuntimeError:
        print("diffrax: JAX sees no GPU (pip install 'jax[cuda12]')")
        return False
    return True


if __name__ == "__main__":
    main()
