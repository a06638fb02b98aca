"""casadi: SUNDIALS' CVODES on casadi's expressions. It takes one atol for all components."""

import time
from functools import cache, partial

import numpy as np

from benchmarks.contestants import MAX_STEPS
from benchmarks.formulas import agree, formula, objects
from benchmarks.peers import Peer, Solver, register
from benchmarks.problems import GRADIENTS, SMOOTH, STIFF


class Casadi:
    """SUNDIALS' CVODES with the field and its Jacobian as casadi's expressions. multistep: 'bdf' or
    'adams'.

    largest: (n,) values that divide the outputs in a loss, their mean square: a solver then gives
    its gradient in y0 and the parameters of the network, (n + p,), by CVODES' adjoint.
    """

    def __init__(self, field, y0, times, multistep: str, largest=None):
        import casadi

        self.casadi = casadi
        self.y0 = y0.numpy()
        self.times = times
        self.multistep = multistep
        self.largest = largest
        weights = [p.detach().numpy() for p in field.parameters()] if largest is not None else []
        self.values = np.concatenate([w.ravel() for w in weights]) if weights else np.zeros(0)
        self.state = casadi.SX.sym("y", len(self.y0))
        self.parameters = casadi.SX.sym("p", len(self.values))
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
        start = casadi.MX.sym("y0", len(self.y0))
        parameters = casadi.MX.sym("p", len(self.values))
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


@cache
def _built(multistep, problem, times, largest):
    return Casadi(problem.field, problem.y0, times, multistep, largest)


def by_casadi(multistep, case, field):
    """The states, or for a case with a loss its gradient. casadi takes one atol: the smallest."""
    built = _built(multistep, case.problem, tuple(case.times), getattr(case, "scale", None))
    run, seconds = built.at(case.rtol, float(case.atol.min()))
    return lambda: (run(), {"compile_s": seconds})


BDF = Solver("casadi CVODES BDF", partial(by_casadi, "bdf"))
ADAMS = Solver("casadi CVODES Adams", partial(by_casadi, "adams"))
register(
    Peer(
        "casadi",
        module="casadi",
        place=60,
        language="casadi expression",
        suite={
            STIFF: [BDF],
            SMOOTH: [ADAMS],
            GRADIENTS[SMOOTH]: [ADAMS],
            GRADIENTS[STIFF]: [BDF],
        },
    )
)
