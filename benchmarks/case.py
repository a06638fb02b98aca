"""A problem with its outputs and their reference, for every benchmark that compares solvers at
equal error."""

from benchmarks.pairs import CLOCKS  # noqa: F401, isort: skip  (before torch: one thread)

import copy
import json
from pathlib import Path

import numpy as np
import torch

from pynode import solve
from pynode.problems.base import Problem

REFERENCE = Path(__file__).parents[1] / "tests" / "reference"
OUTPUTS = 50


def tight(field, y0, t):
    """(T, ...) states by SciPy's DOP853 at 1e-12; y0: (n,) or (batch, n), t: (T,)."""
    from scipy.integrate import solve_ivp

    shape = y0.shape

    def f(t, y):
        return field(t, torch.from_numpy(y).view(shape)).reshape(-1).numpy()

    with torch.no_grad():
        times = t.numpy()
        found = solve_ivp(
            f,
            (times[0], times[-1]),
            y0.reshape(-1).numpy(),
            "DOP853",
            times,
            rtol=1e-12,
            atol=1e-13,
        )
    return torch.from_numpy(found.y.T.copy()).view(-1, *shape)


class Case:
    """One problem with its reference; every contestant is a function of no arguments that solves it
    once."""

    def __init__(self, problem: Problem, rtol: float, times, reference, exact_jacobian=False):
        """times: T + 1 floats, the start first; reference: (T, n) without the start."""
        self.name = problem.name
        self.rtol = rtol
        self.exact = exact_jacobian
        self.problem = problem
        self.times = times
        self.reference = reference
        self.largest = np.abs(self.reference).max(axis=0)
        n = len(self.problem.y0)
        self.atol = np.broadcast_to(np.asarray(self.problem.atol, dtype=float), (n,)).copy()

    @classmethod
    def of_data(cls, problem: Problem, rtol: float, exact_jacobian: bool = False):
        """With the outputs and the reference in tests/reference."""
        text = (REFERENCE / f"{problem.name}.json").read_text(encoding="utf-8")
        data = json.loads(text)
        times = [data["t0"], *data["t"]]
        return cls(problem, rtol, times, np.array(data["y"]), exact_jacobian)

    @classmethod
    def smooth(cls, problem: Problem, rtol: float, end: float | None = None):
        """With 50 outputs, and DOP853 as reference. end: by default the end of the problem."""
        t = torch.linspace(0.0, end or problem.tspan[1], OUTPUTS + 1, dtype=torch.float64)
        return cls(problem, rtol, t.tolist(), tight(problem.field, problem.y0, t).numpy()[1:])

    def at(self, rtol: float):
        """The same case at another rtol, with atol in proportion."""
        moved = copy.copy(self)
        moved.rtol = rtol
        moved.atol = self.atol * (rtol / self.rtol)
        return moved

    def error(self, states) -> float:
        """states: (T, n) at the times of the reference."""
        if np.shape(states) != self.reference.shape:
            return float("inf")
        return float((np.abs(states - self.reference) / self.largest).max())

    def pynode(self, method: str, factor: float = 1.0, field=None, **options):
        """field: the problem's unless another is given; options: further ones of `solve`."""
        if field is None:
            field = self.problem.field
        y0 = self.problem.y0
        atol = torch.from_numpy(factor * self.atol)
        jac = field.jac if self.exact else None

        def run():
            with torch.no_grad():
                return solve(
                    field,
                    y0,
                    self.times,
                    method=method,
                    rtol=factor * self.rtol,
                    atol=atol,
                    jac=jac,
                    throw=False,
                    **options,
                )

        return run

    def pynode_work(self, solution) -> dict:
        stats = solution.stats
        return {
            "error": self.error(solution.y[1:].numpy()),
            "nfe": stats.nfe,
            "njac": stats.njac,
            "nlu": stats.nlu,
            "steps": stats.accepted,
            "rejected": stats.rejected,
        }

    def scipy(self, method: str, mode=torch.no_grad, field=None):
        """SciPy's solver with the wrapper that costs least: no copies, time as a float, no graph.

        field: the problem's unless another is given.
        """
        from scipy.integrate import solve_ivp

        if field is None:
            field = self.problem.field
        y0 = self.problem.y0.numpy()
        span = (self.times[0], self.times[-1])

        def f(t, y):
            return field(t, torch.from_numpy(y)).numpy()

        def jac(t, y):
            return field.jac(t, torch.from_numpy(y)).numpy()

        options = {"jac": jac} if self.exact else {}

        def run():
            with mode():
                return solve_ivp(
                    f,
                    span,
                    y0,
                    method=method,
                    t_eval=self.times[1:],
                    rtol=self.rtol,
                    atol=self.atol,
                    **options,
                )

        return run

    def scipy_work(self, solution) -> dict:
        return {
            "error": self.error(solution.y.T),
            "nfe": solution.nfev,
            "njac": solution.njev,
            "nlu": solution.nlu,
        }

    def cvode(self, method: str = "BDF", field=None):
        """SUNDIALS' CVODE, compiled, with the torch field called from it. method: 'BDF' or
        'Adams'."""
        from sksundae.cvode import CVODE

        if field is None:
            field = self.problem.field
        y0 = self.problem.y0.numpy()
        times = np.array(self.times)
        buffer = torch.empty(len(y0), dtype=torch.float64)
        view = buffer.numpy()

        def f(t, y, out):
            view[:] = y  # CVODE's own arrays are read-only, which torch does not take
            out[:] = field(t, buffer).numpy()

        def run():
            with torch.no_grad():
                solver = CVODE(
                    f, method=method, rtol=self.rtol, atol=self.atol, max_num_steps=10**6
                )
                return solver.solve(times, y0)

        return run

    def cvode_work(self, solution) -> dict:
        return {"error": self.error(solution.y[1:]), "nfe": solution.nfev, "njac": solution.njev}


class Gradient(Case):
    """The gradient in y0 and all parameters of the mean square of the outputs, each component
    divided by its largest value, or by `scale`.

    Errors are relative to the length of the gradient, against pynode's RadauIIA9 at rtol 1e-11.
    """

    def __init__(self, name: str, case: Case, scale=None):
        """scale: what the components are divided by in the loss, n floats, instead of their largest
        values."""
        super().__init__(case.problem, case.rtol, case.times, case.reference)
        self.name = name
        self.parameters = tuple(self.problem.field.parameters())
        self.scale = tuple(self.largest if scale is None else scale)
        field = self.problem.field
        self.reference = self.gradient(
            lambda y0: solve(field, y0, self.times, method="radauiia9", rtol=1e-11, atol=1e-13).y
        )

    def gradient(self, states):
        """(n + p,) gradient by autograd. states: y0 (n,) -> (T + 1, n), the start first."""
        y0 = self.problem.y0.clone().requires_grad_()
        loss = (states(y0)[1:] / y0.new_tensor(self.scale)).square().mean()
        return torch.cat(
            [part.flatten() for part in torch.autograd.grad(loss, (y0, *self.parameters))]
        ).numpy()

    def error(self, found) -> float:
        return float(np.linalg.norm(found - self.reference) / np.linalg.norm(self.reference))
