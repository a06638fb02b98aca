"""The Julia bridge: what a call of the field costs through it, and whole solves beside CVODE and
the torch engine.

  overhead   one evaluation of f as Julia asks for it (C callback, buffers, counters), less the
             plain torch call;
  solve      Robertson, HIRES and van der Pol with the same torch field: SciML's solvers, the torch
             engine, SUNDIALS' CVODE (scikit-sundae, where installed); base: CVODE, or the torch
             engine's QNDF without it.
  gradient   forward and backward of a 3-50-50-3 field: SciML's Gauss adjoint, PyNODE's own, the
             discrete one in torch.

  python -m benchmarks.julia
"""

from benchmarks.pairs import loop, pair  # before torch: one thread

import torch  # isort: skip

from benchmarks import report
from benchmarks.stiff import Case
from pynode import problems, solve
from pynode.backends.julia.field import ForeignField
from pynode.backends.julia.setup.locate import locate
from pynode.core.problem import ODEProblem
from pynode.core.vector_field import VectorField
from pynode.methods import registry

PROBLEMS = ("robertson", "hires", "vanderpol")
METHODS = ("FBDF", "QNDF", "Rodas5P")
CALLS = 2000


class Net(torch.nn.Module):
    """3-50-50-3, tanh."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [
            torch.nn.Linear(3, 50),
            torch.nn.Tanh(),
            torch.nn.Linear(50, 50),
            torch.nn.Tanh(),
            torch.nn.Linear(50, 3),
        ]
        self.net = torch.nn.Sequential(*layers).double()
        self.stiff = torch.tensor([-1.0, -100.0, -1000.0], dtype=torch.float64)

    def forward(self, t, y):
        return self.stiff * y + self.net(y)


def overhead(name, f, y0, args):
    """Microseconds of a call through the hook beside a plain call of the field."""
    from pynode.backends.julia import algorithms
    from pynode.backends.julia.runtime import start

    julia = start()
    problem = ODEProblem(f, y0, (0.0, 1.0))
    field = VectorField(problem, problem.layout(), 0.0)
    foreign = ForeignField(field, algorithms.get(registry.get("fbdf")), 0.0, y0, 1.0)
    handle = foreign.bind(julia.package)
    t = torch.zeros((), dtype=torch.float64)
    julia.main.seval("pynode_calls(F, y, dy, n) = (for _ in 1:n; F(dy, y, nothing, 0.0); end)")
    vector = julia.main.seval(f"collect(Float64, {y0.tolist()})")
    result = julia.main.seval(f"zeros({len(y0)})")
    through = julia.main.pynode_calls
    with torch.inference_mode():
        found = pair(
            lambda: through(handle, vector, result, CALLS),
            loop(lambda: f(t, y0), CALLS),
            args.seconds,
            args.clock,
        )
    micro = 1e6 / CALLS
    return {
        "field": name,
        "plain_us": found.median_b * micro,
        "bridge_us": found.median_a * micro,
        "overhead_us": (found.median_a - found.median_b) * micro,
        "rounds": len(found.a),
    }


def solves(name, args):
    case, rows = Case(name, args.rtol, False), []
    sundials = not report.missing("sksundae.cvode", "scikit-sundae")
    label, base = (
        ("CVODE", case.cvode())
        if sundials
        else ("torch QNDF", case.pynode("QNDF", backend="torch"))
    )
    work = case.cvode_work(base()) if sundials else case.pynode_work(base())
    rows.append({"problem": name, "contestant": label, **work})
    for backend in ("julia", "torch"):
        for method in METHODS:
            run = case.pynode(method, backend=backend)
            found = case.pynode_work(run())
            timed = pair(run, base, args.seconds, args.clock).row()
            rows.append({"problem": name, "contestant": f"{backend} {method}", **timed, **found})
    return rows


def gradients(args):
    f, y0 = Net(), torch.tensor([1.0, 0.5, -0.2], dtype=torch.float64)

    def task(backend, method, adjoint):
        def run():
            y = solve(
                f,
                y0,
                [0.0, 0.5, 1.0],
                method=method,
                rtol=1e-6,
                atol=1e-8,
                backend=backend,
                adjoint=adjoint,
            ).y
            torch.autograd.grad(y[1:].square().sum(), list(f.parameters()))

        return run

    base, rows = task("torch", "FBDF", "discrete"), []
    for backend, method, adjoint in (
        ("julia", "FBDF", "NativeGauss"),
        ("julia", "FBDF", "gauss"),
        ("julia", "Rodas5P", "NativeGauss"),
        ("torch", "Rodas5P", "discrete"),
    ):
        timed = pair(task(backend, method, adjoint), base, args.seconds, args.clock).row()
        rows.append({"contestant": f"{backend} {method} {adjoint}", **timed})
    return rows


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--rtol", type=float, default=1e-6)
    args = parser.parse_args(argv)
    found = locate()
    if not found.ready:
        parser.exit(1, f"no Julia: {found.problem}\n")
    report.heading()
    with torch.no_grad():
        robertson = problems.get("robertson")
        calls = [overhead("robertson", robertson.field, robertson.y0, args)]
        calls.append(overhead("3-50-50-3", Net(), torch.ones(3, dtype=torch.float64), args))
    report.table(
        "overhead: microseconds of a call",
        calls,
        ("field", "plain_us", "bridge_us", "overhead_us", "rounds"),
    )
    rows = [row for name in PROBLEMS for row in solves(name, args)]
    columns = (
        "problem",
        "contestant",
        "ms",
        "base_ms",
        "ratio",
        "low",
        "high",
        "error",
        "nfe",
        "njac",
        "steps",
    )
    report.table(f"solve: rtol {args.rtol:g}, against the first of each problem", rows, columns)
    rows_gradient = gradients(args)
    report.table(
        "gradient: against the torch engine's FBDF with its discrete adjoint",
        rows_gradient,
        ("contestant", "ms", "base_ms", "ratio", "low", "high"),
    )
    report.save("julia", {"overhead": calls, "solve": rows, "gradient": rows_gradient}, args)


if __name__ == "__main__":
    main()
