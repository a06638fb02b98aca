"""Make examples/data/robertson.csv: Robertson's reaction at its start and at 50 log-spaced times,
1e-5 to 1e5 s.

    python examples/make_robertson_data.py

The tightest solve that float64 allows: Rodas5P at rtol 1e-12. The last line printed says how far a
solve with another method is from it, relative to the largest value of each species.
"""

from pathlib import Path

import torch

from pynode import problems, solve

problem = problems.get("robertson")
times = torch.cat((torch.zeros(1, dtype=torch.float64), problem.t_eval))
atol = torch.tensor([1e-14, 1e-18, 1e-14], dtype=torch.float64)

with torch.no_grad():
    y = solve(problem.field, problem.y0, times, method="rodas5p", rtol=1e-12, atol=atol).y
    other = solve(problem.field, problem.y0, times, method="fbdf", rtol=1e-10, atol=1e2 * atol).y

path = Path(__file__).parent / "data" / "robertson.csv"
path.parent.mkdir(exist_ok=True)
lines = ["time,A,B,C"]
lines += [
    ",".join(f"{x:.12g}" for x in (t, *row))
    for t, row in zip(times.tolist(), y.tolist(), strict=True)
]
path.write_text("\n".join(lines) + "\n")
difference = ((y - other).abs() / y.abs().amax(0)).max()
print(f"{path}: {len(times)} lines; FBDF at rtol 1e-10 differs by {float(difference):.1e}")
