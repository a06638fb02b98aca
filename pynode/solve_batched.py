"""``solve(..., batched=True)``: the rows of a batch as separate systems."""

from __future__ import annotations

import torch

from .backends.torch_batched import integrate
from .methods.bdf import BDF
from .methods.dirk import DIRK
from .methods.explicit import ExplicitRungeKutta
from .methods.rosenbrock import RosenbrockMethod
from .methods.rows_bdf import BDFRows
from .methods.rows_dirk import DIRKRows
from .methods.rows_onestep import ExplicitRows, RosenbrockRows
from .rows import RowField, check_independent
from .solution import BatchSolution

_STEPPERS = {ExplicitRungeKutta: ExplicitRows, DIRK: DIRKRows, RosenbrockMethod: RosenbrockRows, BDF: BDFRows}


def solve_batched(problem, method, options, throw) -> BatchSolution:
    """Solve every row of problem.y0, (B, ...), with its own steps; problem.tspan (T,), or (T, B) with a column a row."""
    if type(method) not in _STEPPERS:
        raise ValueError(
            f"{method.name} does not run with batched=True: choose an explicit, Rosenbrock or diagonally implicit method "
            "('tsit5', 'rodas5p', 'kvaerno5'), or 'qndf'"
        )
    field = RowField(problem)
    layout = field.layout
    flat = layout.ravel_rows(problem.y0, field.batch)
    if torch.is_grad_enabled() and (flat.requires_grad or _trainable(problem)):
        raise ValueError(
            "batched=True gives no gradients: solve under torch.no_grad(), or leave batched away to differentiate the batch "
            "as one system"
        )
    times = problem.row_times(flat.device, field.batch)
    atol = options.flat_atol(layout, flat)
    check_independent(field, times[0], flat)
    if options.step_size is not None:
        method = method.fixed()
    with torch.no_grad():
        rows = integrate(field, _STEPPERS[type(method)], method, flat, times, options, atol)
    solution = BatchSolution(times, layout.unravel(rows.ys), rows.statuses, rows.t, field.stats, method.name)
    return solution.check() if throw else solution


def _trainable(problem):
    tensors = list(problem.f.parameters()) if isinstance(problem.f, torch.nn.Module) else []
    return any(isinstance(x, torch.Tensor) and x.requires_grad for x in [*tensors, *problem.args])
