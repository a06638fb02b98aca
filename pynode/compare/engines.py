"""The same problem on both engines: do SciML's solvers and the torch engine agree, in states and in
gradients?

    print(pynode.crosscheck("robertson", method="FBDF"))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..adjoints.base import Adjoint
from ..backends.julia import algorithms
from ..core.layout import Layout
from ..core.problem import ODEProblem, as_problem
from ..core.protocols import Times
from ..core.suggestions import suggests_options
from ..integrate import solve
from ..methods.base import Method
from ..problems import Problem, get
from .runs import atol_at, output_times, weighted_gradients
from .tables import Table


@dataclass(frozen=True)
class Difference:
    """One quantity on both engines. difference: the largest, relative to the torch engine's largest
    value."""

    quantity: str
    difference: float
    largest: float


@dataclass(frozen=True)
class Crosscheck(Table):
    """The result of ``crosscheck``. str() is a table."""

    method: str
    rtol: float
    bound: float
    rows: tuple[Difference, ...]
    seconds: dict[str, float]
    evaluations: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether every difference is at most the bound."""
        return all(row.difference <= self.bound for row in self.rows)

    @property
    def cells(self) -> list[tuple[Any, ...]]:
        rows = [(row.quantity, f"{row.difference:.1e}", f"{row.largest:.3g}") for row in self.rows]
        return [("quantity", "difference", "largest value"), *rows]

    @property
    def note(self) -> str:
        work = "; ".join(
            f"{e}: {self.evaluations[e]} evaluations, {self.seconds[e]:.3f} s forward"
            for e in self.seconds
        )
        if self.ok:
            verdict = "agree"
        else:
            verdict = "DIFFER"
        return (
            f"{self.method} at rtol {self.rtol:g}: the engines {verdict} to {self.bound:g}. {work}."
        )


@suggests_options
def crosscheck(
    f: str | Problem | ODEProblem | Callable[..., Any],
    y0: Any = None,
    t: Times | None = None,
    *,
    method: str | Method = "auto",
    rtol: float = 1e-8,
    atol: float | torch.Tensor | None = None,
    adjoint: str | Adjoint = "gauss",
    args: Sequence[Any] = (),
    bound: float | None = None,
    gradients: bool = True,
    solver: Callable[..., Any] = solve,
    **options: Any,
) -> Crosscheck:
    """Solve with backend='torch' and backend='julia' with the same method, and compare states and
    gradients.

    f: a vector field with y0 and t as for ``solve``, an ODEProblem, or a Problem or its name. A
        Problem has its own y0 and times, which arguments can replace.
    atol: by default 1e-11, or what a Problem suggests for this rtol.
    adjoint: Julia's; the torch engine uses its discrete adjoint.
    gradients: whether to compare gradients. They are those of a fixed random weighting of the
        outputs, with respect to y0 and the parameters of f.
    bound: the largest relative difference that counts as agreement, by default 1000 rtol.
    solver: solves for both engines, with the arguments of ``solve``.
    options: of ``solve``.

    Raises JuliaUnavailable if Julia is missing.
    """
    if isinstance(f, str):
        f = get(f)
    if isinstance(f, Problem):
        if y0 is None:
            y0 = f.y0
        if t is None:
            t = output_times(f)
        if atol is None:
            atol = atol_at(f, rtol)
        f = f.field
    if atol is None:
        atol = 1e-11
    problem = as_problem(f, y0, t, args, options.pop("jac", None), options.pop("mass", None))
    names = _names(problem.f)
    layout = Layout(problem.y0)
    states = {}
    gradients_by_engine = {}
    seconds: dict[str, float] = {}
    evaluations: dict[str, int] = {}
    for engine in ("torch", "julia"):
        start = layout.ravel(problem.y0).detach().clone().requires_grad_(gradients)
        chosen = adjoint
        if engine == "torch":
            chosen = "discrete"
        began = time.perf_counter()
        with torch.set_grad_enabled(gradients):
            solution = solver(
                replace(problem, y0=layout.unravel(start)),
                method=method,
                rtol=rtol,
                atol=atol,
                adjoint=chosen,
                backend=engine,
                **options,
            )
        seconds[engine] = time.perf_counter() - began
        evaluations[engine] = solution.stats.nfe
        states[engine] = layout.ravel_rows(solution.y, len(solution.t))
        if engine == "torch":
            method = algorithms.get(solution.method).name
        if gradients:
            gradients_by_engine[engine] = weighted_gradients(
                states[engine], [start, *names.values()]
            )
    rows = [_difference("y", states["julia"].detach(), states["torch"].detach(), columns=True)]
    if gradients:
        labels = ["gradient in y0", *(f"gradient in {name}" for name in names)]
        pairs = zip(labels, gradients_by_engine["julia"], gradients_by_engine["torch"], strict=True)
        rows += [_difference(label, a, b) for label, a, b in pairs]
    if bound is None:
        bound = 1000 * rtol
    return Crosscheck(str(method), rtol, bound, tuple(rows), seconds, evaluations)


def _names(f) -> dict:
    if not isinstance(f, torch.nn.Module):
        return {}
    return {name: p for name, p in f.named_parameters() if p.requires_grad}


def _difference(quantity, a, b, columns=False):
    """The Difference of a and b. columns: relative to the largest value of each component, instead
    of the largest value of all."""
    if columns:
        scale = b.abs().amax(0)
    else:
        scale = b.abs().max()
    scale = scale.clamp_min(torch.finfo(b.dtype).tiny)
    return Difference(quantity, float(((a - b).abs() / scale).max()), float(b.abs().max()))
