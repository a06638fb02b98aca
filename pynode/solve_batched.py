"""``solve(..., batched=True)``: the rows of a batch as separate systems."""

from __future__ import annotations

import numpy as np
import torch

from .adjoints.base import Integrate
from .adjoints.discrete.adjoint import DiscreteAdjoint
from .adjoints.discrete.batched_gradient import RowGradient
from .algebra.structure import is_dense
from .backends.torch.batched_loop import Spans, integrate
from .backends.torch.batched_segments import RowCourse, RowLeg, moved
from .backends.torch.batched_tape import RowSteps
from .backends.torch.inference import serves_inference, without_graph
from .core.batched_field import RowField, check_independent
from .core.layout import Layout
from .core.problem import ODEProblem
from .core.sharding import check_sharding
from .core.solution import BatchSolution
from .core.vector_field import VectorField
from .failure import Case, examine, occurred
from .methods.batched.bdf import BDFRows
from .methods.batched.bdf_formulas import HISTORIES
from .methods.batched.esdirk import DIRKRows
from .methods.batched.one_step import ExplicitRows, RosenbrockRows
from .methods.bdf.step import BDF
from .methods.compiled.batched_steps import CompiledRows
from .methods.compiled.steps import check
from .methods.esdirk import DIRK
from .methods.explicit import ExplicitRungeKutta
from .methods.rosenbrock import RosenbrockMethod

STEPPERS = {
    ExplicitRungeKutta: ExplicitRows,
    DIRK: DIRKRows,
    RosenbrockMethod: RosenbrockRows,
    BDF: BDFRows,
}


def _no_second(grads, vectors):
    raise NotImplementedError(
        "batched=True has first derivatives alone: for second ones leave batched away"
    )


def serves(method) -> bool:
    """Whether rows have steps of their own under this method."""
    return type(method) in STEPPERS and (
        not isinstance(method, BDF) or type(method.history) in HISTORIES
    )


def check_batched(arguments, problem):
    """ValueError for what a solve row by row does not take."""
    limits = (
        arguments.callback,
        arguments.max_seconds,
        arguments.nonnegative,
        arguments.domain,
    )
    if any(limit is not None for limit in limits):
        raise ValueError(
            "callback, max_seconds, nonnegative and domain are not for batched=True: solve the"
            " rows one by one, or all of them as one system"
        )
    if arguments.dense:
        raise ValueError(
            "batched=True keeps no polynomials: leave dense away, and name in t the times that"
            " are wanted"
        )
    if problem.jac is not None:
        raise ValueError("batched=True makes the Jacobians of all rows itself: leave jac away")
    if problem.mass is not None or not is_dense(arguments.structure):
        raise ValueError(
            "batched=True takes small dense systems without a mass matrix: leave batched away"
        )


def solve_batched(
    problem, method, options, throw, adjoint, params, events, jumps, compiler, by_row=None
):
    """Solve every row of problem.y0, (B, ...), with its own steps; problem.tspan (T,), or (T, B)
    with a column a row.

    events: (events, presets), lists of (number, object); jumps: (k,) times, or (B, k), float64.
    compiler: backend of torch.compile for whole steps, None for steps as they stand. by_row: which
    of args belong to the rows (rows.belonging). Returns a BatchSolution.
    """
    if compiler is not None:
        check(problem.f, method, False)
    if not serves(method):
        raise ValueError(
            f"{method.name} does not run with batched=True: choose an explicit, Rosenbrock or"
            " diagonally implicit method ('tsit5', 'rodas5p', 'kvaerno5'), 'qndf' or 'fbdf'"
        )
    if not isinstance(adjoint, DiscreteAdjoint):
        raise ValueError(
            "batched=True goes back by the discrete adjoint alone: leave adjoint away, or batched"
        )
    if adjoint.checkpoints is not None or adjoint.max_memory is not None:
        raise ValueError(
            "batched=True keeps all steps: leave checkpoints and max_memory away, or batched"
        )
    field = RowField(problem, by_row)
    layout = field.layout
    method.check_dtype(layout.dtype)
    if layout.dtype == torch.bfloat16:
        raise TypeError(
            "batched=True holds the coefficients of its method in the dtype of the state, which"
            " three digits do not serve: pass y0.float() and a module in float32, or leave batched"
            " away"
        )
    flat = layout.ravel_rows(problem.y0, field.batch)
    times = problem.row_times(flat.device, field.batch)
    atol = options.flat_atol(layout, flat)
    moments = times.detach()
    # First with a graph: what f makes at its first call, and keeps, belongs to it.
    field.find_leaves(moments[0], flat, params)
    check_independent(field, moments[0], flat.detach())
    taken = field.isolated()
    if torch.is_grad_enabled() and (flat.requires_grad or taken.leaves.any):
        check_sharding(field.held.modules)
    moving = times.requires_grad and torch.is_grad_enabled()
    if options.step_size is not None:
        method = method.fixed()
    if compiler is not None:
        taken.compiled = CompiledRows(method, taken, compiler)
    inference = not field.leaves.any and not flat.requires_grad and not moving
    inference = inference and serves_inference(taken, moments[0], flat.detach())
    stepper = STEPPERS[type(method)]
    values = moments.cpu().numpy()
    stops = np.sort(options.tstops)

    def leg(rows, start, t, end, place, attempts, watch):
        wanted = torch.is_grad_enabled() and (start.requires_grad or taken.leaves.any)
        if wanted:
            steps = RowSteps()
        else:
            steps = None
        index = torch.from_numpy(rows).to(flat.device)
        spans = Spans(t, end, values[:, rows], place, stops, attempts)

        def run():
            if len(rows) == taken.batch:
                own = taken
            else:
                own = taken.select(index)
            return integrate(
                own,
                stepper,
                method,
                start.detach().clone(),
                spans,
                options,
                atol,
                steps,
                moving,
                watch,
            )

        path = without_graph(run, inference)
        counts = path.place - place
        row = np.repeat(np.arange(len(rows)), counts)
        made = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - place, counts)
        if watch is not None and len(watch.hits.row):
            hits = watch.hits
        else:
            hits = None
        parts = [path.ys[made, row], path.last[:0] if hits is None else hits.y, path.last]
        joined = torch.cat(parts)
        if wanted:
            steps.close(len(rows))
            when = [values[made, rows[row]], path.t]
            who = [row, np.arange(len(rows))]
            if hits is not None:
                when.insert(1, hits.t), who.insert(1, hits.row)
            when = np.concatenate(when)
            who = np.concatenate(who)

            gradient = RowGradient(taken, index, method, steps, when, who)
            joined = Integrate.apply(
                joined.detach, gradient.pullback, _no_second, start, *taken.leaves.inputs
            )
        elif inference:
            joined = joined.clone()  # a tensor of inference mode would be none that a graph can use
        ys, marks, ends = joined.split([len(part) for part in parts])
        if moving:
            slopes = path.slopes[made, row]
        else:
            slopes = None
        return RowLeg(ys, made, row, slopes, marks, ends, path.t, path.statuses, path.attempts)

    course = RowCourse(field, leg, values, *events, jumps, moving).run(flat, times[0])
    field.held.seal()
    place, row, states, slopes = course.outputs()
    at = torch.from_numpy(place).to(flat.device), torch.from_numpy(row).to(flat.device)
    ys = flat.new_full((len(times), *flat.shape), torch.nan).index_put(at, states)
    if moving:
        slopes = flat.new_zeros(ys.shape).index_put(at, slopes)
        # The first output is y0 itself, whatever the time.
        ys = torch.cat((ys[:1], moved(ys[1:], slopes[1:], times[1:])))

    def examined(row):
        own = field.select(torch.tensor([row], device=flat.device))
        span = (float(values[0, row]), float(values[-1, row]))
        end = course.ends[row]
        if atol.dim() == 2:
            bounds = atol[row]
        else:
            bounds = atol
        outputs = (int(course.place[row]), len(values))
        happening = course.happening
        single = ODEProblem(lambda t, y: own.at(t.reshape(1), y.unsqueeze(0)).squeeze(0), end, span)
        events = occurred(
            course.records[row], happening.events, happening.counts[row], float(course.t[row])
        )
        alone = VectorField(single, Layout(end), span[0], [])
        alone.held = field.held
        return examine(
            Case(
                problem,
                alone,
                layout,
                method,
                method.name,
                course.statuses[row],
                float(course.t[row]),
                end,
                flat[row],
                span,
                options,
                bounds,
                outputs,
                [],
                int(course.attempts[row]),
                [],
                None,
                events,
                row,
            )
        )

    solution = BatchSolution(
        times,
        layout.unravel(ys),
        course.statuses,
        course.t.tolist(),
        field.stats,
        method.name,
        course.records,
        examined,
    )
    if throw:
        return solution.check()
    return solution
