"""torchode's explicit methods."""

from functools import partial

import numpy as np

from benchmarks.contestants import by_eager, gradient_by_eager
from benchmarks.peers import Peer, Solver, register
from benchmarks.problems import GRADIENTS, SMOOTH, STIFF


def torchode(f, y0, t, method, rtol, atol):
    """torchode's 'Tsit5' or 'Dopri5', which step every sample of a batch by itself. It takes one
    atol: the smallest."""
    import torchode as package

    rows = y0 if y0.dim() == 2 else y0.unsqueeze(0)
    term = package.ODETerm(f)
    stepper = getattr(package, method)(term=term)
    control = package.IntegralController(atol=float(np.min(atol)), rtol=rtol, term=term)
    problem = package.InitialValueProblem(y0=rows, t_eval=t.expand(len(rows), -1))
    ys = package.AutoDiffAdjoint(stepper, control).solve(problem).ys.transpose(0, 1)
    return ys if y0.dim() == 2 else ys.squeeze(1)


def _solver(method):
    return Solver(f"torchode {method}", partial(by_eager, torchode, method, {}))


def _no_options(case):
    return {}


TSIT5 = _solver("Tsit5")
GRADIENT = Solver("torchode Tsit5", partial(gradient_by_eager, torchode, "Tsit5", _no_options))
register(
    Peer(
        "torchode",
        module="torchode",
        place=30,
        suite={
            STIFF: [TSIT5],
            SMOOTH: [TSIT5],
            GRADIENTS[SMOOTH]: [GRADIENT],
            GRADIENTS[STIFF]: [GRADIENT],
        },
        ladder={STIFF: [TSIT5], SMOOTH: [TSIT5, _solver("Dopri5")]},
    )
)
