"""The small costs that the comments in the code refer to, one thread, float64, microseconds.

sums       a linear combination of 2 to 8 vectors: stack and one addmv, the vectors stacked as rows
           or as columns, beside a chain of add(alpha=...), forward, and forward with backward;
           ratio below 1: the product is faster
solves     n x n systems: one inverse and mv a solve beside lu_factor and lu_solve; a factorisation
           alone, a solve alone, and a factorisation with 10 solves, as BDF uses it
jacobians  Jacobians of a field at m points: all in one vectorised call beside one call a point
"""

from benchmarks.pairs import loop, pair

import torch  # isort: skip

from benchmarks import report
from benchmarks.fields import MLP
from pynode import problems
from pynode.adjoints.field_products import jacobians
from pynode.algebra.jacobian import Jacobian
from pynode.core.problem import ODEProblem
from pynode.core.vector_field import VectorField

# Each measured piece is repeated to last about this long, far above the resolution of the clock.
PIECE = 2e-3


def measure(a, b, args) -> dict:
    """Microseconds a call of a and of b in turn."""
    number = max(1, round(PIECE / max(_seconds(a), _seconds(b), 1e-7)))
    row = pair(loop(a, number), loop(b, number), args.seconds, args.clock, rounds=(9, 400)).row()
    us = 1e3 / number
    return {
        "us": us * row["ms"],
        "base_us": us * row["base_ms"],
        **{k: row[k] for k in ("ratio", "low", "high", "rounds")},
    }


def _seconds(f) -> float:
    """A rough time of one call."""
    return pair(loop(f, 3), loop(f, 3), 0.02, "wall", rounds=(2, 20)).median_b / 3


def sums(args) -> list:
    """Stack and addmv beside a chain of additions, y + h sum_i c_i k_i."""
    rows = []
    for n in args.sizes:
        for terms in range(2, 9):
            y, *ks = [torch.randn(n, dtype=torch.float64) for _ in range(terms + 1)]
            leaves = [x.clone().requires_grad_() for x in (y, *ks)]
            seed, c = torch.ones(n, dtype=torch.float64), torch.randn(terms, dtype=torch.float64)
            values, h = c.tolist(), 0.1

            def by_rows(y, ks, c=c, h=h):
                return torch.addmv(y, torch.stack(ks).t(), c, alpha=h)

            def by_columns(y, ks, c=c, h=h):
                return torch.addmv(y, torch.stack(ks, dim=1), c, alpha=h)

            def chain(y, ks, values=values, h=h):
                for k, value in zip(ks, values):
                    y = torch.add(y, k, alpha=h * value)
                return y

            def forward(f, y=y, ks=ks):
                return lambda: f(y, ks)

            def backward(f, leaves=leaves, seed=seed):
                return lambda: torch.autograd.grad(f(leaves[0], leaves[1:]), leaves, seed)

            for name, product in (("rows", by_rows), ("columns", by_columns)):
                row = {"n": n, "terms": terms, "stacked": name}
                with torch.no_grad():
                    found = measure(forward(product), forward(chain), args)
                rows.append({**row, "task": "forward", **found})
                rows.append(
                    {
                        **row,
                        "task": "forward, backward",
                        **measure(backward(product), backward(chain), args),
                    }
                )
    return rows


def solves(args) -> list:
    """Inverse and mv beside LU."""
    rows = []
    for n in (3, 5, 8, 12, 20, 32, 48, 64, 100, 150, 200):
        matrix = torch.eye(n, dtype=torch.float64) - 0.1 * torch.randn(n, n, dtype=torch.float64)
        b = torch.randn(n, dtype=torch.float64)
        inverse, (lu, pivots) = torch.linalg.inv(matrix), torch.linalg.lu_factor(matrix)
        column = b.unsqueeze(1)

        def invert(matrix=matrix):
            return torch.linalg.inv_ex(matrix)[0]

        def factor(matrix=matrix):
            return torch.linalg.lu_factor_ex(matrix)[:2]

        def multiply(inverse=inverse, b=b):
            return torch.mv(inverse, b)

        def substitute(lu=lu, pivots=pivots, column=column):
            return torch.linalg.lu_solve(lu, pivots, column)

        def one_and_ten(first, each):
            def run():
                first()
                for _ in range(10):
                    each()

            return run

        with torch.no_grad():
            tasks = {
                "factorise": (invert, factor),
                "solve": (multiply, substitute),
                "factorise, 10 solves": (
                    one_and_ten(invert, multiply),
                    one_and_ten(factor, substitute),
                ),
            }
            rows += [
                {"n": n, "task": task, **measure(a, b, args)} for task, (a, b) in tasks.items()
            ]
    return rows


def many(args) -> list:
    """Jacobians at m points together beside one at a time."""
    cases = {
        name: (problems.get(name).field, problems.get(name).y0)
        for name in ("robertson", "hires", "pollution")
    }
    cases["mlp 3-50-50-3"] = MLP(), torch.ones(3, dtype=torch.float64)
    rows = []
    for name, (f, y0) in cases.items():
        problem = ODEProblem(f, y0, [0.0, 1.0])
        field = VectorField(problem, problem.layout(), 0.0)
        single = Jacobian(field)
        for m in (10, 100, 1000):
            y = y0 + 0.01 * torch.rand(m, len(y0), dtype=torch.float64)
            t, points = torch.zeros(m, dtype=torch.float64), list(y.unbind(0))

            def together(field=field, t=t, y=y):
                with torch.no_grad():
                    return jacobians(field, t, y)

            def separate(single=single, points=points):
                with torch.no_grad():
                    return [single(0.0, point) for point in points]

            row = measure(together, separate, args)
            row["us_point"], row["base_us_point"] = row["us"] / m, row["base_us"] / m
            rows.append({"field": name, "points": m, **row})
    return rows


def main(argv=None):
    parser = report.parser(__doc__)
    parser.set_defaults(seconds=0.2)
    parser.add_argument(
        "--parts",
        nargs="+",
        default=("sums", "solves", "jacobians"),
        choices=("sums", "solves", "jacobians"),
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=(3, 100, 100_000),
        help="lengths of the vectors of sums",
    )
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    report.heading()
    tables = {}
    numbers = ("us", "base_us", "ratio", "low", "high", "rounds")
    for name, make, columns, title in (
        (
            "sums",
            sums,
            ("n", "terms", "stacked", "task"),
            "sums: stack and addmv beside a chain of add",
        ),
        ("solves", solves, ("n", "task"), "solves: inverse and mv beside LU"),
        (
            "jacobians",
            many,
            ("field", "points"),
            "jacobians: many points together beside one at a time",
        ),
    ):
        if name in args.parts:
            report.progress(name)
            tables[name] = make(args)
            extra = ("us_point", "base_us_point") if name == "jacobians" else ()
            report.table(title, tables[name], (*columns, *numbers, *extra))
    report.save("micro", tables, args)


if __name__ == "__main__":
    main()
