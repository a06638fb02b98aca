"""The fields of the benchmarks written in Julia, and their solves as a Julia user writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.fields import MLP, StiffMLP
from benchmarks.formulas import Term, agree, formula, objects, written

PACKAGES = {
    "FBDF": "OrdinaryDiffEqBDF",
    "QNDF": "OrdinaryDiffEqBDF",
    "Rodas5P": "OrdinaryDiffEqRosenbrock",
    "KenCarp4": "OrdinaryDiffEqSDIRK",
    "Tsit5": "OrdinaryDiffEqTsit5",
}

MODULE = """
module {name}
import SciMLBase, {packages}
{field}
function solved(algorithm, start, first, last, reltol, abstol, saveat)
    problem = SciMLBase.ODEProblem(right!, start, (first, last))
    return SciMLBase.solve(problem, algorithm; reltol, abstol, saveat)
end
function repeated(count, arguments...)
    for _ in 1:count
        solved(arguments...)
    end
end
function states(arguments...)
    solution = solved(arguments...)
    return permutedims(reduce(hcat, solution.u)), solution.stats.nf, solution.stats.naccept
end
end
"""


class Written:
    """A case whose field is Julia's own code.

    main: Julia's module Main. SciML's defaults hold: its Jacobian by ForwardDiff, and its options.
    """

    def __init__(self, main: Any, case: Any) -> None:
        text = right(case.problem.field, len(case.problem.y0))
        name = "Written" + hashlib.sha256(text.encode()).hexdigest()[:12]
        if not main.seval(f"isdefined(Main, :{name})"):
            packages = ", ".join(sorted(set(PACKAGES.values())))
            main.seval(MODULE.format(name=name, packages=packages, field=text))
        self.module = main.seval(name)
        self._vector = main.seval("x -> collect(Float64, x)")
        self._case = case
        self._check(main, name)

    def _check(self, main, name):
        """ValueError if the Julia field is another one than the torch field."""
        problem = self._case.problem
        slope = main.seval(f"y -> (dy = similar(y); {name}.right!(dy, y, nothing, 0.0); dy)")
        found = slope(self._vector(problem.y0.tolist()))
        agree(problem.field, problem.y0, np.asarray(found), "Julia")

    def _arguments(self, method):
        case = self._case
        return (
            getattr(getattr(self.module, PACKAGES[method]), method)(),
            self._vector(case.problem.y0.tolist()),
            float(case.times[0]),
            float(case.times[-1]),
            float(case.rtol),
            self._vector(case.atol.tolist()),
            self._vector(case.times[1:]),
        )

    def repeated(self, method: str) -> Callable[[int], object]:
        """A function that solves so many times within one call of Julia."""
        arguments = self._arguments(method)
        return lambda count: self.module.repeated(count, *arguments)

    def called(self, method: str) -> Callable[[], object]:
        """A function that solves once, called from Python, with Julia's result left in Julia."""
        arguments = self._arguments(method)
        return lambda: self.module.solved(*arguments)

    def work(self, method: str) -> dict:
        """The error, the evaluations and the steps of a solve."""
        states, nfe, steps = self.module.states(*self._arguments(method))
        error = self._case.error(np.asarray(states))
        return {"error": error, "nfe": int(nfe), "steps": int(steps)}


def right(field: Any, n: int) -> str:
    """The function right!(dy, y, p, t) of a field with n states."""
    if isinstance(field, MLP):
        return _network(field)
    states = objects([Term(f"y[{i + 1}]") for i in range(n)])
    slopes = formula(field, objects, None)(states)
    lines = [f"    dy[{i + 1}] = {written(slope)}" for i, slope in enumerate(slopes)]
    return "\n".join(["function right!(dy, y, p, t)", *lines, "    return nothing", "end"])


def _network(field):
    """A network by matrices, with an array for each layer."""
    linear = field.layers[::2]
    constants = []
    value = "y"
    for i, layer in enumerate(linear):
        constants.append(f"const W{i} = {_matrix(layer.weight)}")
        constants.append(f"const b{i} = {_vector(layer.bias)}")
        value = f"W{i} * {value} .+ b{i}"
        if i < len(linear) - 1:
            value = f"tanh.({value})"
    if isinstance(field, StiffMLP):
        constants.append(f"const rates = {_vector(field.rates)}")
        value = f"rates .* ({value} .- y)"
    function = f"function right!(dy, y, p, t)\n    dy .= {value}\n    return nothing\nend"
    return "\n".join([*constants, function])


def _vector(values):
    return "[" + ", ".join(map(repr, values.tolist())) + "]"


def _matrix(values):
    return "[" + "; ".join(" ".join(map(repr, row)) for row in values.tolist()) + "]"
