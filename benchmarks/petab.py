"""Estimation problems of the PEtab collection: pynode beside AMICI (C++, forward sensitivities).

  objective   the negative log-likelihood at the nominal parameters
  gradient    the same with its gradient, on the scales of the parameters
  first_s     seconds on the wall to read the problem and to reach the first gradient; of AMICI
              with the compilation of the model
  ms          median time of pynode; amici_ms, the same of AMICI
  ratio       pynode's time over AMICI's; "low" and "high" are the quartiles over the rounds
  error       against --references, a JSON {name: {"objective": ..., "gradient": {parameter: ...}}}:
              of the objective, or of the gradient, its largest difference relative to
              |g| + 1e-3 max |g|; amici_error, the same of AMICI

COLLECTION is a folder with one folder a problem, as the collection has them. AMICI runs in another
Python (--amici), whose environment has amici, petab and SciPy; without it pynode runs alone.
Both run on one thread in one run, in turn.
"""

from benchmarks.pairs import once  # before torch: one thread

import torch  # isort: skip

import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from benchmarks import report

NAMES = ("Boehm_JProteomeRes2014", "Fujita_SciSignal2010", "Brannmark_JBC2010")
COLUMNS = (
    "problem",
    "task",
    "first_s",
    "ms",
    "amici_first_s",
    "amici_ms",
    "ratio",
    "low",
    "high",
    "value",
    "error",
    "amici_error",
)
WORKER = Path(__file__).parent / "amici_worker.py"


class Amici:
    """The worker process. Each call is one request and its answer."""

    def __init__(self, python: str) -> None:
        # The compiler's tools (cmake, swig) may stand in the same environment.
        path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            [python, "-I", str(WORKER)],  # or this file would be its package petab
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PATH": path},
        )

    def ask(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                "AMICI ended: run benchmarks/amici_worker.py in its environment to see why"
            )
        return json.loads(line)


class Pynode:
    """The same problem by pynode."""

    def __init__(self, path: Path) -> None:
        from pynode.models import petab

        begun = time.perf_counter()
        self.problem = petab(path)
        self.theta = self.problem.start
        self.problem.gradient(self.theta)
        self.first_s = time.perf_counter() - begun

    def evaluate(self, gradient: bool) -> dict:
        """The objective and its gradient, in the form of the worker's answers."""
        if not gradient:
            with torch.no_grad():
                return {"objective": self.problem.objective(self.theta), "gradient": {}}
        value, slopes = self.problem.gradient(self.theta)
        names = [parameter.name for parameter in self.problem.parameters]
        return {"objective": value, "gradient": dict(zip(names, slopes.tolist(), strict=True))}


def compare(name: str, right: dict, args) -> list[dict]:
    """Two lines of the table: the objective, and the objective with its gradient."""
    path = args.collection / name / f"{name}.yaml"
    mine = Pynode(path)
    theirs = None
    compiled = None
    if args.amici:
        theirs = Amici(args.amici)
        compiled = theirs.ask(path=str(path), rtol=args.rtol, atol=args.atol)["compiled_s"]
    rows = []
    for task in ("objective", "gradient"):
        row = {"problem": name, "task": task, "first_s": mine.first_s, "amici_first_s": compiled}
        row |= _measured(mine, theirs, task, right, args)
        rows.append(row)
    return rows


def _measured(mine: Pynode, theirs: Amici | None, task: str, right: dict, args) -> dict:
    """Times in turn, the value, and the errors."""
    gradient = task == "gradient"

    def run():
        return mine.evaluate(gradient)

    answer = run()
    ours = []
    others = []
    end = time.perf_counter() + args.seconds
    while len(ours) < 5 or time.perf_counter() < end:
        ours.append(once(run, args.clock))
        if theirs is not None:
            foreign = theirs.ask(gradient=gradient, repeats=1)
            others.append(foreign["seconds"])
    found = {
        "ms": 1e3 * statistics.median(ours),
        "value": float(answer["objective"]),
        "error": _error(answer, right, task),
    }
    if theirs is not None:
        ratios = [a / b for a, b in zip(ours, others, strict=True)]
        found["amici_ms"] = 1e3 * statistics.median(others)
        found["amici_error"] = _error(foreign, right, task)
        found["ratio"] = found["ms"] / found["amici_ms"]
        found["low"], _, found["high"] = statistics.quantiles(ratios, n=4)
    return found


def _error(found: dict, right: dict, task: str) -> float | None:
    """The error of an objective, or of a gradient; None where the right one is not known."""
    if task not in right:
        return None
    if task == "objective":
        return abs(float(found["objective"]) - right["objective"])
    return _largest_difference(found["gradient"], right["gradient"])


def _largest_difference(ours: dict, right: dict) -> float:
    """The largest difference of two gradients, {name: slope}, relative to |g| + 1e-3 max |g| of the
    second one, over its names."""
    largest = max(map(abs, right.values()))
    return max(
        abs(ours[name] - slope) / (abs(slope) + 1e-3 * largest) for name, slope in right.items()
    )


def _means(rows: list) -> list:
    """The geometric means of the ratios over the problems."""
    found = []
    for task in ("objective", "gradient"):
        ratios = [row["ratio"] for row in rows if row["task"] == task and "ratio" in row]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            found.append({"problem": "geometric mean", "task": task, "ratio": mean})
    return found


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("collection", type=Path, help="folder with one folder a problem")
    parser.add_argument("--problems", nargs="+", default=NAMES, help="names of folders")
    parser.add_argument("--amici", help="the Python of an environment with AMICI")
    parser.add_argument("--references", type=Path, help="JSON with right values")
    parser.add_argument("--rtol", type=float, default=1e-8, help="AMICI's (default 1e-8)")
    parser.add_argument("--atol", type=float, default=1e-12, help="AMICI's (default 1e-12)")
    args = parser.parse_args()
    right = {}
    if args.references is not None:
        right = json.loads(args.references.read_text())
    report.heading()
    rows = []
    for name in args.problems:
        report.progress(name)
        rows += compare(name, right.get(name, {}), args)
    rows += _means(rows)
    report.table("PEtab problems at their nominal parameters", rows, COLUMNS)
    report.save("petab", {"petab": rows}, args)


if __name__ == "__main__":
    main()
