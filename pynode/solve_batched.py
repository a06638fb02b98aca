"""``solve(..., batched=True)``: the rows of a batch as separate systems."""

from __future__ import annotations

import torch

from .adjoints import discrete_rows
from .adjoints.base import Integrate
from .adjoints.discrete import DiscreteAdjoint
from .backends.row_steps import RowSteps
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


def solve_batched(problem, method, options, throw, adjoint, params) -> BatchSolution:
    """Solve every row of problem.y0, (B, ...), with its own steps; problem.tspan (T,), or (T, B) with a column a row."""
    if type(method) not in _STEPPERS:
        raise ValueError(
            f"{method.name} does not run with batched=True: choose an explicit, Rosenbrock or diagonally implicit method "
            "('tsit5', 'rodas5p', 'kvaerno5'), 'qndf' or 'fbdf'"
        )
    if not isinstance(adjoint, DiscreteAdjoint):
        raise ValueError("batched=True goes back by the discrete adjoint alone: leave adjoint away, or batched")
    if adjoint.checkpoints is not None or adjoint.max_memory is not None:
        raise ValueError("batched=True keeps all steps: leave checkpoints and max_memory away, or batched")
    field = RowField(problem)
    layout = field.layout
    flat = layout.ravel_rows(problem.y0, field.batch)
    times = problem.row_times(flat.device, field.batch)
    atol, values = options.flat_atol(layout, flat), times.detach()
    check_independent(field, values[0], flat.detach())
    field.find_parameters(values[0], flat, params)
    moving = times.requires_grad and torch.is_grad_enabled()
    start = _moved(flat, field.at(values[0], flat.detach()).detach(), -times[0]) if moving else flat
    wanted = torch.is_grad_enabled() and (start.requires_grad or bool(field.parameters))
    if options.step_size is not None:
        method = method.fixed()
    steps = RowSteps() if wanted else None
    with torch.no_grad():
        rows = integrate(field, _STEPPERS[type(method)], method, start.detach(), values, options, atol, steps, moving)
    ys = rows.ys
    if wanted:
        steps.close(field.batch)

        def pullback(grads):
            return discrete_rows.pullback(field, method, steps, values.cpu().numpy(), grads)

        ys = Integrate.apply(lambda: rows.ys, pullback, _no_second, start, *field.parameters)
    if moving:
        # The first output is y0 itself, whatever the time.
        ys = torch.cat((flat.unsqueeze(0), _moved(ys[1:], rows.slopes[1:], times[1:])))
    solution = BatchSolution(times, layout.unravel(ys), rows.statuses, rows.t, field.stats, method.name)
    return solution.check() if throw else solution


def _no_second(grads, vectors):
    raise NotImplementedError("batched=True has first derivatives alone: for second ones leave batched away")


def _moved(y, slope, time):
    """y with that slope as its derivative in the time."""
    return y + slope * (time - time.detach()).to(y.dtype).unsqueeze(-1)
