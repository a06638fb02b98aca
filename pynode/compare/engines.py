"""The same problem on both engines: do SciML's solvers and the torch engine agree, in states and in
gradients?

    print(pynode.crosscheck("robertson", method="FBDF"))
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from ..backends.julia import algorithms
from ..core.layout import Layout
from ..core.problem import as_problem
from ..problems import Problem, get
from ..solve import solve
from .runs import atol_at, output_times, weighted_gradients
from .tables import Table


@dataclass(frozen=True)
class Difference:
    """One quantity on both engines. difference: the largest, relative to the largest value of the
    torch engine's."""

    quantity: str
    difference: float
    largest: float


@dataclass(frozen=True)
class Crosscheck(Table):
    """What ``crosscheck`` found. str() is a table; ok: whether every difference is below the
    bound."""

    method: str
    rtol: float
    bound: float
    rows: tuple[Difference, ...]
    seconds: dict
    evaluations: dict

    @property
    def ok(self) -> bool:
        return all(row.difference <= self.bound for row in self.rows)

    @property
    def cells(self) -> list:
        told = [(row.quantity, f"{row.difference:.1e}", f"{row.largest:.3g}") for row in self.rows]
        return [("quantity", "difference", "largest value"), *told]

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


def crosscheck(
    f,
    y0=None,
    t=None,
    *,
    method="auto",
    rtol=1e-8,
    atol=None,
    adjoint="gauss",
    args=(),
    bound=None,
    gradients=True,
    **options,
) -> Crosscheck:
    """Solve with backend='torch' and backend='julia' by the same method, and compare states and
    gradients.

    f: a vector field with y0 and t as for ``solve``, an ODEProblem, or a Problem or its name, whose
    own y0 and times are taken unless others are given. atol: by default 1e-11, or what a Problem
    suggests for this rtol. adjoint: Julia's; the torch engine takes its discrete one. The gradients
    are those of a fixed random weighting of the outputs in y0 and in the parameters of f. bound:
    largest relative difference that counts as agreement, by default 1000 rtol. options: of
    ``solve``. Raises JuliaUnavailable where there is no Julia.
    """
    if isinstance(f, str):
        f = get(f)
    if isinstance(f, Problem):
        if y0 is None:
            y0 = f.y0
        if t is None:
            t = output_times(f)
        f, atol = f.field, atol_at(f, rtol) if atol is None else atol
    if atol is None:
        atol = 1e-11
    problem = as_problem(f, y0, t, args, options.pop("jac", None), options.pop("mass", None))
    names = _names(problem.f)
    layout = Layout(problem.y0)
    states = {}
    found = {}
    seconds = {}
    evaluations = {}
    for engine in ("torch", "julia"):
        start = layout.ravel(problem.y0).detach().clone().requires_grad_(gradients)
        if engine == "torch":
            chosen = "discrete"
        else:
            chosen = adjoint
        began = time.perf_counter()
        with torch.set_grad_enabled(gradients):
            solution = solve(
                replace(problem, y0=layout.unravel(start)),
                method=method,
                rtol=rtol,
                atol=atol,
                adjoint=chosen,
                backend=engine,
                **options,
            )
        seconds[engine], evaluations[engine] = time.perf_counter() - began, solution.stats.nfe
        states[engine] = layout.ravel_rows(solution.y, len(solution.t))
        if engine == "torch":
            method = algorithms.get(solution.method).name
        if gradients:
            found[engine] = weighted_gradients(states[engine], [start, *names.values()])
    rows = [_difference("y", states["julia"].detach(), states["torch"].detach(), columns=True)]
    if gradients:
        labels = ["gradient in y0", *(f"gradient in {name}" for name in names)]
        pairs = zip(labels, found["julia"], found["torch"], strict=True)
        rows += [_difference(label, a, b) for label, a, b in pairs]
    return Crosscheck(
        method, rtol, 1000 * rtol if bound is None else bound, tuple(rows), seconds, evaluations
    )


def _names(f) -> dict:
    if not isinstance(f, torch.nn.Module):
        return {}
    return {name: p for name, p in f.named_parameters() if p.requires_grad}


def _difference(quantity, a, b, columns=False):
    """columns: each component by its own largest value."""
    if columns:
        scale = b.abs().amax(0)
    else:
        scale = b.abs().max()
    scale = scale.clamp_min(torch.finfo(b.dtype).tiny)
    return Difference(quantity, float(((a - b).abs() / scale).max()), float(b.abs().max()))
