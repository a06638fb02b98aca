"""A batch of Van der Pol oscillators with batched=True, beside a Python loop over SciPy's BDF with
the same torch field. "qndf, native" among the methods is the native engine. "qndf, julia" is
SciML's QNDF with native functions, each row by itself. "diffrax" is its Kvaerno5 under jax.vmap,
compiled.
With --gradient the engines of pynode also differentiate the sum of the last states in y0 and mu.

Row i has mu_i from 1 to 10,000, evenly spaced in the logarithm; all rows start at (2, 0) and run to
--span with 11 outputs. The target is 1/30 of the time of the loop. SciPy's time for all rows is
estimated from --sample of them, spread evenly over mu, in turn with the batch; --sample 0 runs them
all. The errors of the sampled rows are in units of atol + rtol |y|. The reference is Rodas5P at a
thousandth of the tolerances. On rows with a fast cycle the error contains a shift of phase.
"""

from benchmarks.pairs import pair

import numpy as np  # isort: skip
import torch  # isort: skip

from benchmarks import report
from benchmarks.peers.diffrax import DiffraxBatch
from pynode import JuliaBackend, solve

# Behind the name of a method: by which engine.
ENGINES = {", native": "native", ", julia": JuliaBackend(hooks="native")}
DIFFRAX = "diffrax"
METHODS = ("qndf", "fbdf")


def oscillator(t, y, mu):
    """Van der Pol: y (..., 2) and mu (...)."""
    x, v = y.unbind(-1)
    return torch.stack((v, mu * ((1 - x * x) * v) - x), -1)


def twin(t, y, mu):
    """The same in JAX: y (2,)."""
    from jax import numpy as jnp

    return jnp.stack((y[1], mu * ((1 - y[0] * y[0]) * y[1]) - y[0]))


class Batch:
    """All rows, and the sample of them that SciPy solves. constants: (rows, ...), of the field f(t,
    y, constants)."""

    field, start = staticmethod(oscillator), (2.0, 0.0)

    def __init__(self, rows: int, sample: int, span: float, rtol: float):
        self.constants, self.t = self.spread(rows), self.times(span)
        self.y0 = torch.tensor(self.start, dtype=torch.float64).repeat(rows, 1)
        self.rtol, self.atol = rtol, 1e-2 * rtol
        count = min(sample or rows, rows)
        self.sample = ((torch.arange(count) + 0.5) * (rows / count)).long()

    def spread(self, rows: int):
        """mu from 1 to 10,000."""
        return torch.logspace(0, 4, rows, dtype=torch.float64)

    def times(self, span: float):
        return torch.linspace(0, span, 11, dtype=torch.float64)

    def pynode(self, method: str, gradient: bool = False):
        """A solve of all rows by one of METHODS; gradient: and the way back."""
        name = method
        backend: str | JuliaBackend = "torch"
        for suffix, engine in ENGINES.items():
            if method.endswith(suffix):
                name = method.removesuffix(suffix)
                backend = engine

        def forward():
            return solve(
                self.field,
                self.y0,
                self.t,
                args=(self.constants,),
                method=name,
                rtol=self.rtol,
                atol=self.atol,
                batched=True,
                backend=backend,
            )

        def both():
            leaves = (self.y0, self.constants)
            for tensor in leaves:
                tensor.requires_grad_()
            solution = forward()
            torch.autograd.grad(solution.y[-1].sum(), leaves)
            for tensor in leaves:
                tensor.requires_grad_(False)
            return solution

        return both if gradient else torch.no_grad()(forward)

    def diffrax(self):
        """The same by diffrax: (states without the start, rows that did not reach the end)."""
        return DiffraxBatch(
            twin,
            self.y0,
            self.constants,
            self.t,
            "Kvaerno5",
            self.rtol,
            self.atol,
            self.start,
            100_000,
            "cpu",
        ).forward

    def scipy(self):
        """The loop over the sampled rows; the field without copies, time as a float, no graph."""
        from scipy.integrate import solve_ivp

        times = self.t.tolist()

        def run():
            found = []
            for constants, y0 in zip(self.constants[self.sample], self.y0[self.sample]):

                def f(t, y, constants=constants):
                    return self.field(t, torch.from_numpy(y), constants).numpy()

                with torch.inference_mode():
                    found.append(
                        solve_ivp(
                            f,
                            (times[0], times[-1]),
                            y0.numpy(),
                            method="BDF",
                            t_eval=times,
                            rtol=self.rtol,
                            atol=self.atol,
                        )
                    )
            return found

        return run

    def reference(self):
        """States of the sampled rows, (T, sample, 2)."""
        with torch.no_grad():
            return solve(
                self.field,
                self.y0[self.sample],
                self.t,
                args=(self.constants[self.sample],),
                method="rodas5p",
                rtol=1e-3 * self.rtol,
                atol=1e-3 * self.atol,
                batched=True,
            ).y

    def errors(self, states, reference) -> dict:
        """Median and largest error over the rows, each row's largest over its outputs and
        components."""
        scaled = ((states - reference).abs() / (self.atol + self.rtol * reference.abs())).amax(
            dim=(0, 2)
        )
        return {"error": float(scaled.median()), "worst": float(scaled.max())}


def outcome(solution) -> tuple:
    """(counts, states of all rows at the last of the outputs) of a solve."""
    if isinstance(solution, tuple):  # diffrax
        return {}, torch.from_numpy(np.array(solution[0]))
    stats = solution.stats
    work = {
        "nfe": stats.nfe,
        "njac": stats.njac,
        "nlu": stats.nlu,
        "steps": stats.accepted,
        "rejected": stats.rejected,
    }
    return work, solution.y.detach()


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument(
        "--sample", type=int, default=32, help="rows that SciPy solves (default 32; 0: all)"
    )
    parser.add_argument(
        "--span", type=float, default=100.0, help="time to integrate to (default 100)"
    )
    parser.add_argument("--rtol", type=float, default=1e-6, help="atol is a hundredth of it")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, with --wall")
    parser.add_argument("--gradient", action="store_true", help="and the gradient in y0 and mu")
    parser.set_defaults(seconds=60.0)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if report.missing("scipy.integrate", "scipy"):
        parser.exit(1, "this benchmark needs SciPy: pip install scipy\n")
    report.heading()
    batch = Batch(args.rows, args.sample, args.span, args.rtol)
    base, whole = batch.scipy(), args.rows / len(batch.sample)
    loop, reference = base(), batch.reference()
    states = torch.from_numpy(np.stack([found.y.T for found in loop], axis=1))
    rows = [
        {
            "method": "scipy BDF",
            "nfe": round(whole * sum(x.nfev for x in loop)),
            **batch.errors(states, reference),
        }
    ]
    for method in args.methods:
        report.progress(method)
        run = batch.diffrax() if method == DIFFRAX else batch.pynode(method, args.gradient)
        solution = run()
        timed = pair(run, base, args.seconds, args.clock, rounds=(3, 100)).row()
        for key in ("base_ms", "base_min_ms"):
            timed[key] *= whole
        for key in ("ratio", "low", "high"):
            timed[key] /= whole
        work, states = outcome(solution)
        rows.append({"method": method, **timed, "times": 1 / timed["ratio"], **work})
        rows[-1].update(batch.errors(states[:, batch.sample], reference[-len(states) :]))
    columns = (
        "method",
        "ms",
        "base_ms",
        "ratio",
        "low",
        "high",
        "times",
        "rounds",
        "nfe",
        "njac",
        "nlu",
        "steps",
        "rejected",
    )
    count = len(batch.sample)
    title = (
        f"{args.rows} rows to t = {args.span:g} at rtol {args.rtol:g}; base: SciPy's BDF in a loop,"
        f" from {count} rows"
    )
    report.table(title, rows, (*columns, "error", "worst"))
    report.save("batched", {"batched": rows}, args)


if __name__ == "__main__":
    main()
