"""This tree beside another checkout of pynode: is the suite slower than it was?

Three processes run the same solves in turn, round after round: this tree, the other one, and the
other one again. The third is the control: its ratio to the second shows what the machine alone does
to a ratio. A ratio is the time of this tree over the other's at equal error, by lines through
time over error over the ladder of tolerances; below 1 this tree is faster. The benchmarks of this
tree serve both, so the other one needs the same names in `pynode.solve`.

  same    the ratio of the medians at equal tolerances, its median over the tolerances: where the
          steps are the same, it holds no luck
  least   the same of the least times: what disturbs a machine for seconds only ever adds to a time
"""

from benchmarks.pairs import once

import json  # isort: skip
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import report

HERE = Path(__file__).parents[1]
CONTROL = "other again"
READY = "ready\n"
# Problem -> methods. The last ones are batches of Van der Pol oscillators.
CASES = {
    **dict.fromkeys(
        ("robertson", "hires", "vanderpol", "oregonator", "pollution"),
        ("QNDF", "FBDF", "Rodas5P", "Kvaerno5"),
    ),
    "stiff mlp": ("QNDF", "RadauIIA5"),
    **dict.fromkeys(("lotka_volterra", "spiral", "mlp"), ("Tsit5", "DP5", "Vern7")),
    "mlp gradient": ("Tsit5", "DP5"),
    "stiff mlp gradient": ("QNDF", "Rodas5P", "Kvaerno5"),
    "batch": ("QNDF", "Rodas5P", "Tsit5"),
    "batch gradient": ("QNDF", "Rodas5P", "Tsit5"),
}


class Worker:
    """A process that solves with the pynode of one tree, as asked."""

    def __init__(self, name: str, tree: Path):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.versions", "--worker", str(tree)],
            cwd=HERE,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self.process.stdout.readline() != READY:
            raise SystemExit(f"There is no package pynode in {tree}.")

    def ask(self, problem: str, method: str, rtol: float) -> dict:
        """{seconds, error, nfe} of one solve."""
        print(json.dumps([problem, method, rtol]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(
                f"The process of {self.name} ended at {problem} by {method}; what it said is above."
            )
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Batch:
    """64 Van der Pol oscillators with mu from 1 to 30 in one solve; what is asked of a case of the
    suite.

    The result is (rows, T, 2), or the gradient of its mean square in mu, (rows,). The reference is
    Rodas5P at rtol 1e-11.
    """

    times = (0.0, 0.5, 1.0, 2.0)

    def __init__(self, gradient: bool):
        self.gradient = gradient
        self.reference, _ = self.run("rodas5p", 1e-11)()

    def run(self, method: str, rtol: float):
        """A function of no arguments that solves and returns (result, counts)."""
        import torch

        from pynode import solve

        y0 = torch.tensor([2.0, 0.0], dtype=torch.float64).repeat(64, 1)
        mu = torch.logspace(0, 1.5, 64, dtype=torch.float64).requires_grad_(self.gradient)

        def oscillator(t, y, mu):
            x, v = y.unbind(-1)
            return torch.stack((v, mu * (1 - x * x) * v - x), -1)

        def run():
            with torch.set_grad_enabled(self.gradient):
                options = {
                    "args": (mu,),
                    "method": method,
                    "rtol": rtol,
                    "atol": 1e-2 * rtol,
                    "batched": True,
                }
                y = solve(oscillator, y0, self.times, **options).y
                found = torch.autograd.grad(y.square().mean(), mu)[0] if self.gradient else y
            return found.numpy(), {}

        return run

    def error(self, found) -> float:
        return float(abs(found - self.reference).max() / abs(self.reference).max())


def runner(problem: str, method: str, rtol: float) -> tuple:
    """(a function that solves once, the error of its result)."""
    from benchmarks import contestants, suite

    if problem not in _made:
        _made[problem] = (
            Batch(problem.endswith("gradient"))
            if problem.startswith("batch")
            else suite.case(problem)
        )
    case = _made[problem]
    if isinstance(case, Batch):
        run = case.run(method, rtol)
    else:
        case = case.at(rtol)
        by = (
            contestants.gradient_by_pynode
            if problem.endswith("gradient")
            else contestants.by_pynode
        )
        run = by(method, case, case.problem.field)
    found, _ = run()
    return run, math.inf if found is None else case.error(found)


_made = {}


def serve(tree: Path):
    """Answer each line of the input on the output, with the pynode of the tree and the benchmarks
    of this one."""
    sys.path[0] = str(tree)
    import pynode

    if not Path(pynode.__file__).is_relative_to(tree):
        return
    sys.path[0] = str(HERE)
    print(READY, end="", flush=True)
    runs = {}
    for line in sys.stdin:
        asked = tuple(json.loads(line))
        if asked not in runs:
            runs[asked] = runner(*asked)
        run, error = runs[asked]
        print(json.dumps({"seconds": once(run), "error": error}), flush=True)


def measure(workers: list, problem: str, method: str, args) -> list:
    """One row a worker and tolerance, with `times`, from rounds in which all run in turn, each
    first as often as the others."""
    rows = []
    for rtol in args.ladder:
        report.progress(problem, method, f"rtol {rtol:g}")
        found = [worker.ask(problem, method, rtol) for worker in workers]
        times = [[] for _ in workers]
        end = time.monotonic() + args.seconds
        while len(times[0]) < args.rounds and (len(times[0]) < 3 or time.monotonic() < end):
            turn = len(times[0]) % len(workers)
            order = [*range(turn, len(workers)), *range(turn)]
            for i in order:
                times[i].append(workers[i].ask(problem, method, rtol)["seconds"])
        for worker, answer, taken in zip(workers, found, times, strict=True):
            rows.append(
                {"worker": worker.name, "rtol": rtol, "error": answer["error"], "times": taken}
            )
    return rows


def compared(rows: list, mine: str, other: str) -> dict:
    """{same, least, ratio, low, high} of the times of one worker over those of another."""
    from benchmarks import suite

    a, b = ([row for row in rows if row["worker"] == name] for name in (mine, other))
    same, least = (
        statistics.median(
            middle(x["times"]) / middle(y["times"]) for x, y in zip(a, b, strict=True)
        )
        for middle in (statistics.median, min)
    )
    return {"same": same, "least": least, **suite.compared(a, b)}


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--problems", nargs="+", default=tuple(CASES), choices=tuple(CASES))
    parser.add_argument(
        "--ladder", nargs="+", type=float, default=(1e-4, 1e-6, 1e-8), help="rtol, two at least"
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="most rounds for each tolerance (default 15)"
    )
    args = parser.parse_args(argv)
    report.heading()
    trees = {"this": HERE, "other": args.other.resolve(), CONTROL: args.other.resolve()}
    workers = [Worker(name, tree) for name, tree in trees.items()]
    table = []
    for problem in args.problems:
        for method in CASES[problem]:
            rows = measure(workers, problem, method, args)
            found, control = compared(rows, "this", "other"), compared(rows, CONTROL, "other")
            table.append(
                {
                    "problem": problem,
                    "method": method,
                    **found,
                    "control": control["same"],
                    "control_least": control["least"],
                    "control_low": control.get("low"),
                    "control_high": control.get("high"),
                }
            )
    for worker in workers:
        worker.close()
    total = {"problem": "median", "method": f"{len(table)} pairs"}
    for key in ("same", "least", "ratio", "control", "control_least"):
        total[key] = statistics.median(row[key] for row in table if key in row)
    control = ("control", "control_least", "control_low", "control_high")
    columns = ("problem", "method", "same", "least", "ratio", "low", "high", *control, "note")
    report.table("this tree over the other", [*table, total], columns)
    report.save("versions", {"pairs": table, "median": [total]}, args)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(Path(sys.argv[2]))
    else:
        main()
