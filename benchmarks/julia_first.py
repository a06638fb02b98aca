"""The first minute of a process with Julia: prints seconds on the wall, as JSON.

python -m benchmarks.julia_first METHOD
"""

import sys
import time

BEGAN = time.perf_counter()

import json  # noqa: E402

import torch  # noqa: E402

from pynode import problems, solve  # noqa: E402
from pynode.backends.julia.runtime import start  # noqa: E402

END = 100.0  # seconds of the reaction
# The number of PrecompileTools in Julia's registry.
TOOLS = "aea7be01-6a6a-4083-8856-8a6e6704d82a"


def main(method: str):
    imported = time.perf_counter()
    julia = start()
    started = time.perf_counter()
    problem = problems.get("robertson")
    # Without Julia: the translation of the field is not Julia's.
    y = solve(problem.field, problem.y0, [0.0, END], method="rodas5p", backend="native").y
    torch.autograd.grad(y.sum(), list(problem.field.parameters()))
    translated = time.perf_counter()
    options = {"method": method, "backend": "julia", "max_steps": 10**6}
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        y = solve(problem.field, problem.y0, [0.0, END], **options).y
        between = time.perf_counter()
        torch.autograd.grad(y.sum(), list(problem.field.parameters()))
        seconds.append((between - began, time.perf_counter() - between))
    julia.main.seval(f'tools = Base.require(Base.PkgId(Base.UUID("{TOOLS}"), "PrecompileTools"))')
    print(
        json.dumps(
            {
                "import_s": imported - BEGAN,
                "start_s": started - imported,
                "translate_s": translated - started,
                "solve_s": seconds[0][0],
                "gradient_s": seconds[0][1],
                "second_s": sum(seconds[1]),
                "workloads": bool(julia.main.seval("tools.workload_enabled(PyNODE)")),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
