"""What the adjoints cost, one thread.

parameters   the Gauss adjoint over the number of parameters p at a fixed number of states:
             milliseconds of backward, its reverse steps and Jacobians, which must not depend on p;
             "per_p" is nanoseconds for each parameter and state at which the quadrature evaluates
             it
states       the same over the number of states n, p fixed: reverse steps, factorisations, and
             milliseconds a step
together     all adjoints side by side on Robertson (9 outputs to 1e5, rtol 1e-8) and on a 3-50-50-3
             network: the time of loss.backward() in units of the forward solve, and the largest
             difference of the gradients from the discrete one relative to the largest entry of each
"""

import statistics

from benchmarks.pairs import CLOCKS

import torch  # isort: skip

from torch import nn

from benchmarks import report
from benchmarks.fields import MLP, start
from pynode import problems, solve
from pynode.adjoints import registry

NAMES = [name for name in registry.names() if name != registry.DIRECT]


class Wide(nn.Module):
    """n states through a hidden layer whose width sets p, beside decays of 1 to 1000 that make it
    stiff."""

    def __init__(self, n, p, stiff=1000.0):
        super().__init__()
        generator, width = torch.Generator().manual_seed(0), max(1, round(p / (2 * n)))
        self.first = nn.Parameter(
            torch.randn(width, n, generator=generator, dtype=torch.float64) / n**0.5
        )
        self.second = nn.Parameter(
            torch.randn(n, width, generator=generator, dtype=torch.float64) / width
        )
        self.register_buffer(
            "rates",
            torch.logspace(0, torch.log10(torch.tensor(stiff)).item(), n, dtype=torch.float64),
        )

    def forward(self, t, y):
        return torch.tanh(y @ self.first.T) @ self.second.T - self.rates * y


def backward(field, y0, times, options, adjoint, clock, repeats):
    """(seconds of the forward solve, of backward, gradients, solution), medians of so many
    repetitions."""
    now, forwards, backwards = CLOCKS[clock], [], []
    for _ in range(repeats):
        leaf = y0.clone().requires_grad_()
        begin = now()
        solution = solve(field, leaf, times, adjoint=adjoint, **options)
        loss = solution.y.square().mean()
        middle = now()
        grads = torch.autograd.grad(loss, (leaf, *field.parameters()))
        backwards.append(now() - middle)
        forwards.append(middle - begin)
    return statistics.median(forwards), statistics.median(backwards), grads, solution


def scaling(sizes, args):
    rows = []
    for n, p in sizes:
        report.progress("gauss", n, "states", p, "parameters")
        field, y0 = Wide(n, p), torch.linspace(0.5, 1.5, n, dtype=torch.float64)
        options = {"method": "fbdf", "rtol": 1e-6, "atol": 1e-8}
        forward, back, _, solution = backward(
            field, y0, [0.0, 1.0], options, "gauss", args.clock, args.repeats
        )
        count, stats = sum(x.numel() for x in field.parameters()), solution.stats
        steps = stats.backward_accepted
        points = stats.backward_nfe
        rows.append(
            {
                "n": n,
                "p": count,
                "forward_ms": 1e3 * forward,
                "backward_ms": 1e3 * back,
                "ratio": back / forward,
                "steps": steps,
                "njac": stats.backward_njac,
                "nlu": stats.backward_nlu,
                "nvjp": stats.backward_nvjp,
                "ms_step": 1e3 * back / steps,
                "per_p": 1e9 * back / count / points,
            }
        )
    return rows


def together(args):
    rows = []
    robertson = problems.get("robertson")
    log = [0.0, *(10.0**i for i in range(-3, 6))]
    cases = (
        (
            "robertson",
            robertson.field,
            robertson.y0,
            log,
            {"rtol": 1e-8, "atol": (1e-10, 1e-14, 1e-10)},
            ("fbdf", "rodas5p"),
        ),
        (
            "mlp",
            MLP(),
            start(),
            [0.0, 1.0, 2.0, 5.0],
            {"rtol": 1e-6, "atol": 1e-8},
            ("tsit5", "rodas5p", "fbdf"),
        ),
    )
    for name, field, y0, times, tolerances, methods in cases:
        for method in methods:
            expected = None
            for adjoint in NAMES:
                report.progress(name, method, adjoint)
                label = {"field": name, "method": method, "adjoint": adjoint}
                try:
                    found = backward(
                        field,
                        y0,
                        times,
                        {"method": method, **tolerances},
                        adjoint,
                        args.clock,
                        args.repeats,
                    )
                except ValueError as error:
                    rows.append({**label, "note": str(error).split(":")[0].split(",")[0][:40]})
                    continue
                forward, back, grads, solution = found
                expected = grads if expected is None else expected
                stats = solution.stats
                difference = max(
                    float((a - b).abs().max() / b.abs().max())
                    for a, b in zip(grads, expected, strict=True)
                )
                rows.append(
                    {
                        **label,
                        "forward_ms": 1e3 * forward,
                        "backward_ms": 1e3 * back,
                        "ratio": back / forward,
                        "steps": stats.accepted,
                        "reverse": stats.backward_accepted,
                        "nvjp": stats.backward_nvjp,
                        "grad_diff": difference,
                    }
                )
    return rows


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parameters", nargs="*", type=float, default=(1e2, 1e3, 1e4, 1e5, 1e6))
    parser.add_argument("--states", nargs="*", type=int, default=(4, 16, 64, 256))
    args = parser.parse_args(argv)
    report.heading()
    tables = {
        "parameters": scaling([(10, int(p)) for p in args.parameters], args),
        "states": scaling([(n, 4096) for n in args.states], args),
        "together": together(args),
    }
    columns = (
        "n",
        "p",
        "forward_ms",
        "backward_ms",
        "ratio",
        "steps",
        "njac",
        "nlu",
        "nvjp",
        "ms_step",
        "per_p",
    )
    report.table("parameters: the Gauss adjoint over p", tables["parameters"], columns)
    report.table("states: the Gauss adjoint over n", tables["states"], columns)
    columns = (
        "field",
        "method",
        "adjoint",
        "forward_ms",
        "backward_ms",
        "ratio",
        "steps",
        "reverse",
        "nvjp",
        "grad_diff",
    )
    report.table("together: all adjoints", tables["together"], (*columns, "note"))
    report.save("adjoints", tables, args)


if __name__ == "__main__":
    main()
