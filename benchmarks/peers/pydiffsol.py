"""pydiffsol: diffsol's solvers, in Rust, on a text in DiffSL. They take one atol for all
components."""

import time
from functools import cache, partial

import numpy as np

from benchmarks.fields import MLP, StiffMLP
from benchmarks.formulas import Term, agree, formula, objects, written
from benchmarks.peers import Peer, Solver, register
from benchmarks.problems import SMOOTH, STIFF


class Diffsol:
    """diffsol's solvers, in Rust, on the problem as text in its language DiffSL, compiled by LLVM.
    method: 'bdf', 'tsit45'.

    compile_seconds: on the wall, of the compilation.
    """

    def __init__(self, field, y0, times, method: str):
        import pydiffsol

        began = time.perf_counter()
        self.times = np.array(times[1:])
        self.inputs = np.zeros(0)
        self.ode = pydiffsol.Ode(diffsl(field, y0), matrix_type=pydiffsol.nalgebra_dense)
        self.compile_seconds = time.perf_counter() - began
        self.ode.ode_solver = getattr(pydiffsol, method)
        agree(field, y0, self.ode.rhs(self.inputs, 0.0, y0.numpy()), "DiffSL")

    def __call__(self, rtol: float, atol: float):
        self.ode.rtol = rtol
        self.ode.atol = atol
        return np.asarray(self.ode.solve_dense(self.inputs, self.times).ys).T


def diffsl(field, y0) -> str:
    """The initial value problem in DiffSL: one expression a component; of a network, tensors (the
    text of its thousands of products takes a minute to compile)."""
    start = "".join(f"y{i} = {value!r},\n" for i, value in enumerate(y0.tolist()))
    if isinstance(field, MLP):
        right = _network(field)
    else:
        slopes = formula(field, objects, None)(objects([Term(f"y{i}") for i in range(len(y0))]))
        right = "F_i {\n" + "".join(f"{written(slope)},\n" for slope in slopes) + "}"
    return f"u_i {{\n{start}}}\n{right}\n"


def _network(field) -> str:
    linear = field.layers[::2]
    text = ""
    above = "u"
    for i, layer in enumerate(linear):
        text += _tensor(f"w{i}_ij", layer.weight) + _tensor(f"b{i}_i", layer.bias)
        text += (
            f"s{i}_i {{ w{i}_ij * {above}_j }}\na{i}_i {{ s{i}_i + b{i}_i }}\nh{i}_i {{"
            f" tanh(a{i}_i) }}\n"
        )
        above = f"h{i}"
    out = f"a{len(linear) - 1}_i"
    if isinstance(field, StiffMLP):
        return text + _tensor("rate_i", field.rates) + f"F_i {{ rate_i * ({out} - u_i) }}"
    return text + f"F_i {{ {out} }}"


def _tensor(name: str, values) -> str:
    entries = np.ndenumerate(values.detach().numpy())
    return (
        f"{name} {{\n"
        + "".join(f"({', '.join(map(str, at))}): {float(x)!r},\n" for at, x in entries)
        + "}\n"
    )


@cache
def _built(method, problem, times):
    return Diffsol(problem.field, problem.y0, times, method)


def by_diffsol(method, case, field):
    """pydiffsol takes one atol: the smallest."""
    built = _built(method, case.problem, tuple(case.times))
    return lambda: (built(case.rtol, float(case.atol.min())), {"compile_s": built.compile_seconds})


register(
    Peer(
        "pydiffsol",
        module="pydiffsol",
        place=70,
        language="DiffSL, compiled",
        suite={
            STIFF: [Solver("pydiffsol BDF", partial(by_diffsol, "bdf"))],
            SMOOTH: [Solver("pydiffsol Tsit45", partial(by_diffsol, "tsit45"))],
        },
    )
)
