"""torchdiffeq's odeint and odeint_adjoint."""

from functools import partial

from benchmarks.contestants import by_eager, gradient_by_eager
from benchmarks.peers import Peer, Solver, register
from benchmarks.problems import GRADIENTS, SMOOTH, STIFF

import torch  # isort: skip


def torchdiffeq(f, y0, t, method, rtol, atol, adjoint=False, options=None, parameters=None):
    """torchdiffeq's odeint or odeint_adjoint. method 'scipy_solver' takes options={'solver':
    'BDF'}.

    parameters: what the adjoint differentiates if f is not a module.
    """
    from torchdiffeq import odeint, odeint_adjoint

    atol = atol if isinstance(atol, float) else torch.as_tensor(atol)
    given = {"adjoint_params": parameters} if adjoint and parameters is not None else {}
    solver = odeint_adjoint if adjoint else odeint
    return solver(f, y0, t, rtol=rtol, atol=atol, method=method, options=options, **given)


BDF = {"options": {"solver": "BDF"}}


def _solver(method, **options):
    return Solver(f"torchdiffeq {method}", partial(by_eager, torchdiffeq, method, options))


def _gradient(label, method, adjoint, **options):
    def more(case):
        return {**options, "adjoint": True, "parameters": case.parameters} if adjoint else options

    return Solver(label, partial(gradient_by_eager, torchdiffeq, method, more))


register(
    Peer(
        "torchdiffeq",
        module="torchdiffeq",
        place=20,
        suite={
            STIFF: [
                Solver(
                    "torchdiffeq scipy_solver BDF",
                    partial(by_eager, torchdiffeq, "scipy_solver", BDF),
                )
            ],
            SMOOTH: [_solver("dopri5")],
            GRADIENTS[SMOOTH]: [
                _gradient("torchdiffeq dopri5", "dopri5", False),
                _gradient("torchdiffeq dopri5, adjoint", "dopri5", True),
            ],
            GRADIENTS[STIFF]: [
                _gradient("torchdiffeq scipy_solver BDF, adjoint", "scipy_solver", True, **BDF)
            ],
        },
        ladder={
            STIFF: [_solver("dopri5"), _solver("scipy_solver", **BDF)],
            SMOOTH: [_solver("dopri5")],
        },
    )
)
