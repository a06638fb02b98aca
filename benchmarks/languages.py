"""The peers that compile a field of their own language and integrate it in C or Rust: casadi and
pydiffsol.

Both take one atol for all components. times: T + 1 floats, the start first. Outputs are the states
without the start, (T, n).
"""

import time

import numpy as np

from benchmarks.fields import MLP, StiffMLP
from benchmarks.formulas import Term, formula, objects, written

MAX_STEPS = 100_000


def agree(field, y0, found, language: str):
    """ValueError unless `found`, dy/dt at y0, is what the torch field gives."""
    expected = field(0.0, y0).detach().numpy()
    if not np.allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max()):
        raise ValueError(f"the {language} twin of {type(field).__name__} is another field")


class Casadi:
    """SUNDIALS' CVODES with the field and its Jacobian as casadi's expressions. multistep: 'bdf' or
    'adams'.

    largest: (n,) values that divide the outputs in a loss, their mean square: a solver then gives
    its gradient in y0 and the parameters of the network, (n + p,), by CVODES' adjoint.
    """

    def __init__(self, field, y0, times, multistep: str, largest=None):
        import casadi

        self.casadi, self.y0, self.times, self.multistep, self.largest = (
            casadi,
            y0.numpy(),
            times,
            multistep,
            largest,
        )
        weights = [p.detach().numpy() for p in field.parameters()] if largest is not None else []
        self.values = np.concatenate([w.ravel() for w in weights]) if weights else np.zeros(0)
        self.state, self.parameters = (
            casadi.SX.sym("y", len(self.y0)),
            casadi.SX.sym("p", len(self.values)),
        )
        parts = (
            np.split(_cells(self.parameters), np.cumsum([w.size for w in weights])[:-1])
            if weights
            else []
        )
        parameters = [part.reshape(w.shape) for part, w in zip(parts, weights)] if weights else None
        right = formula(field, objects, np.vectorize(casadi.tanh, otypes=[object]))
        self.right = casadi.vertcat(*right(_cells(self.state), parameters))
        slope = casadi.Function("f", [self.state, self.parameters], [self.right])
        agree(field, y0, slope(self.y0, self.values).full().ravel(), "casadi")

    def at(self, rtol: float, atol: float):
        """(function of no arguments that solves once, seconds on the wall that building it
        took)."""
        began = time.perf_counter()
        solver = self.casadi.integrator(
            "solver",
            "cvodes",
            {"x": self.state, "p": self.parameters, "ode": self.right},
            self.times[0],
            list(self.times[1:]),
            {
                "reltol": rtol,
                "abstol": atol,
                "linear_multistep_method": self.multistep,
                "max_num_steps": MAX_STEPS,
            },
        )
        if self.largest is None:
            return lambda: solver(x0=self.y0)["xf"].full().T, time.perf_counter() - began
        gradient = self._differentiated(solver)

        def run():
            return np.concatenate([part.full().ravel() for part in gradient(self.y0, self.values)])

        return run, time.perf_counter() - began

    def _differentiated(self, solver):
        casadi = self.casadi
        start, parameters = casadi.MX.sym("y0", len(self.y0)), casadi.MX.sym("p", len(self.values))
        states = solver(x0=start, p=parameters)["xf"]
        loss = (
            casadi.sumsqr(states / casadi.repmat(casadi.DM(self.largest), 1, states.size2()))
            / states.numel()
        )
        return casadi.Function(
            "g", [start, parameters], [casadi.gradient(loss, at) for at in (start, parameters)]
        )


def _cells(vector) -> np.ndarray:
    """The entries of a casadi vector, (n,), as objects."""
    cells = np.empty(vector.numel(), dtype=object)
    for i in range(len(cells)):
        cells[i] = vector[i]
    return cells


class Diffsol:
    """diffsol's solvers, in Rust, on the problem as text in its language DiffSL, compiled by LLVM.
    method: 'bdf', 'tsit45'.

    compile_seconds: on the wall, of the compilation.
    """

    def __init__(self, field, y0, times, method: str):
        import pydiffsol

        began = time.perf_counter()
        self.times, self.inputs = np.array(times[1:]), np.zeros(0)
        self.ode = pydiffsol.Ode(diffsl(field, y0), matrix_type=pydiffsol.nalgebra_dense)
        self.compile_seconds = time.perf_counter() - began
        self.ode.ode_solver = getattr(pydiffsol, method)
        agree(field, y0, self.ode.rhs(self.inputs, 0.0, y0.numpy()), "DiffSL")

    def __call__(self, rtol: float, atol: float):
        self.ode.rtol, self.ode.atol = rtol, atol
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
    linear, text, above = field.layers[::2], "", "u"
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
