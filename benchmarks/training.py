"""Training a stiff neural ODE: the first 200 iterations on Robertson's data, beside diffrax in the
same run.

The network of Kim et al. 2021 (Stiff neural ordinary differential equations, Chaos 31, 093122): six
hidden layers of five GELU neurons, states and rates scaled, 50 observations from 1e-5 to 1e5 s, the
mean absolute error of the scaled states, Adam at a rate of 0.005. Everyone starts from the same
weights, at the same tolerances, in float64 on one thread; diffrax takes Kvaerno5, a PIDController
and the RecursiveCheckpointAdjoint, and its whole iteration, Adam included, is compiled. The
contestants iterate in turn, A B C A B C ..., each on its own weights.

  paper   the scaling of the paper and random weights: the field is tame at first, and stiffens
          while it learns
  stiff   the scaling and warm start of ``pynode train``, which fit the data before the first solve:
          stiff at once

  first_s       seconds of the first iteration, compilation included, on the wall; imports are left
                out on both sides
  wall_s, cpu_s seconds of all iterations, compilation included, on the wall and of the processor
                ("wall", "cpu": the same in units of diffrax's; target: at most 1)
  ms_iter       median of an iteration, the first left out, of the clock of --wall; "steady": in
                units of diffrax's
  grad_first, grad_last
                error of the gradient at the first weights and at those that the first contestant
                ended with, relative to its length, against RadauIIA9 at rtol 1e-11 ("reference":
                how far diffrax at rtol 1e-10 is from it)
"""

import copy
import statistics
import time

from benchmarks.pairs import CLOCKS

import torch  # isort: skip

from benchmarks import report
from benchmarks.peers.diffrax import DiffraxTraining
from pynode import problems, solve
from pynode.data import Dataset
from pynode.train.model import build
from pynode.train.scaling import Scaling
from pynode.train.synthetic import observe
from pynode.train.times import log_times
from pynode.train.warmstart import warm_start

METHODS = ("qndf", "fbdf", "rodas5p", "kencarp4", "kvaerno5", "radauiia9")
PEER = "diffrax Kvaerno5"
# (scaling, iterations of the warm start, rate of Adam)
STARTS = {"paper": ("kim", 0, 5e-3), "stiff": ("decades", 600, 2e-4)}
NETWORK = {"hidden": [5] * 6, "activation": "gelu", "time_input": False}
MAX_STEPS, SEEDS = 4096, 10
REFERENCE = ("radauiia9", 1e-11)
PEER_REFERENCE = 1e-10


def observations() -> Dataset:
    """Robertson's reaction at 0 and at 50 times from 1e-5 to 1e5 s, from a tight solve."""
    return observe(problems.get("robertson"), log_times(1e-5, 1e5, 50))


class Task:
    """What all contestants are given: the field with its first weights, the times, the scaled
    observations."""

    def __init__(self, start: str, data: Dataset, rtol: float):
        kind, warm, self.rate = STARTS[start]
        run, scaling = data.trajectories[0], Scaling.of(data, kind)
        self.t, self.observed, self.rtol = run.t, scaling.scaled(run.y), rtol
        for self.seed in range(SEEDS):
            self.field = build(NETWORK, scaling, torch.Generator().manual_seed(self.seed))
            if warm:
                warm_start([self.field], data, warm)
            with torch.no_grad():
                if torch.isfinite(self.loss(self.field, "kvaerno5", rtol)[0]):
                    return
        raise RuntimeError(f"none of {SEEDS} starts can be integrated: choose a larger --rtol")

    def loss(self, field, method, rtol):
        """(mean absolute error of the scaled states after the start, Solution); infinite where the
        solve fails."""
        tolerances = {"rtol": rtol, "atol": 1e-3 * rtol, "max_steps": MAX_STEPS}
        solution = solve(field, self.observed[0], self.t, method=method, throw=False, **tolerances)
        if not solution.success:
            return torch.tensor(float("inf"), dtype=torch.float64), solution
        return (solution.y[1:] - self.observed[1:]).abs().mean(), solution


class Pynode:
    """One training with one of our methods. Parameters are in the order of field.parameters()."""

    def __init__(self, task, method):
        self.task, self.name, self.method = task, method, method
        self.field = copy.deepcopy(task.field)
        self.optimizer = torch.optim.Adam(self.field.parameters(), lr=task.rate)

    def iterate(self):
        """(loss, steps taken) of one iteration."""
        self.optimizer.zero_grad()
        loss, solution = self.task.loss(self.field, self.method, self.task.rtol)
        if not solution.success:
            return float("inf"), solution.stats.accepted
        loss.backward()
        self.optimizer.step()
        return loss.item(), solution.stats.accepted

    def weights(self) -> list:
        return [p.detach().clone() for p in self.field.parameters()]

    def gradient(self, weights, rtol=None):
        """d loss / d weights as one vector."""
        return gradient(self.task, weights, self.method, rtol or self.task.rtol)


def gradient(task, weights, method, rtol):
    field = copy.deepcopy(task.field)
    for p, w in zip(field.parameters(), weights, strict=True):
        p.data.copy_(w)
    loss, solution = task.loss(field, method, rtol)
    solution.check()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(field.parameters()))])


class Peer(DiffraxTraining):
    """The same with diffrax."""

    name = PEER

    def __init__(self, task):
        super().__init__(
            task.field, task.t, task.observed, "Kvaerno5", task.rtol, task.rate, MAX_STEPS
        )


def train(contestants, iterations) -> dict:
    """{name: one row an iteration of (wall seconds, processor seconds, loss, steps)}, the
    contestants in turn."""
    record = {c.name: [] for c in contestants}
    for i in range(iterations):
        if i % 50 == 0:
            report.progress("iteration", i)
        for c in contestants:
            wall, cpu = time.perf_counter(), time.process_time()
            loss, steps = c.iterate()
            record[c.name].append(
                (time.perf_counter() - wall, time.process_time() - cpu, loss, steps)
            )
    return record


def rows(task, contestants, record, clock) -> list:
    """The table of a training."""
    first = [p.detach() for p in task.field.parameters()]
    points = {"grad_first": first, "grad_last": contestants[0].weights()}
    references = {at: gradient(task, weights, *REFERENCE) for at, weights in points.items()}
    made = []
    for c in contestants:
        walls, cpus, losses, steps = zip(*record[c.name])
        row = {
            "contestant": c.name,
            "first_s": walls[0],
            "wall_s": sum(walls),
            "cpu_s": sum(cpus),
            "ms_iter": (
                1e3 * statistics.median((walls if clock is CLOCKS["wall"] else cpus)[1:] or walls)
            ),
            "loss": losses[-1],
            "steps_first": steps[0],
            "steps_last": steps[-1],
        }
        for at, weights in points.items():
            row[at] = distance(c.gradient(weights), references[at])
        made.append(row)
    base = next((row for row in made if row["contestant"] == PEER), None)
    if base:
        for row in made:
            row |= {"wall": row["wall_s"] / base["wall_s"], "cpu": row["cpu_s"] / base["cpu_s"]}
            row["steady"] = row["ms_iter"] / base["ms_iter"]
        peer = next(c for c in contestants if c.name == PEER)
        agreed = {
            at: distance(peer.gradient(w, PEER_REFERENCE), references[at])
            for at, w in points.items()
        }
        made.append({"contestant": "reference", **agreed})
    return made


def distance(a, b) -> float:
    return float((a - b).norm() / b.norm())


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument(
        "--rtol", type=float, default=1e-6, help="of the scaled states; atol is a thousandth of it"
    )
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=STARTS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--no-diffrax", action="store_true", help="our methods alone")
    args = parser.parse_args(argv)
    report.heading()
    peer = not args.no_diffrax and not report.missing("diffrax")
    data, tables = observations(), {}
    shown = (
        "contestant",
        "first_s",
        "wall_s",
        "wall",
        "cpu_s",
        "cpu",
        "ms_iter",
        "steady",
        "loss",
        "steps_first",
        "steps_last",
        "grad_first",
        "grad_last",
    )
    for start in args.starts:
        report.progress(start)
        task = Task(start, data, args.rtol)
        contestants = ([Peer(task)] if peer else []) + [
            Pynode(task, method) for method in args.methods
        ]
        record = train(contestants, args.iterations)
        tables[start] = rows(task, contestants, record, CLOCKS[args.clock])
        report.table(
            f"{start}: {args.iterations} iterations, seed {task.seed}", tables[start], shown
        )
    report.save("training", tables, args)


if __name__ == "__main__":
    main()
