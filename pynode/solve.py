"""``solve``: the front door. The only file that knows every noun."""

from __future__ import annotations

from dataclasses import replace

import torch

from .adjoints import registry as adjoints
from .adjoints.base import Gradient, Integrate
from .adjoints.selection import choose as choose_adjoint
from .algebra.consistent import consistent as make_consistent
from .algebra.mass import Mass
from .algebra.structure import blocks, is_dense, structure_of
from .backends import registry as backends
from .backends.torch.inference import serves_inference, without_graph
from .backends.torch.segments import Course, Leg, boundaries
from .core.autograd import FirstOrderOnly
from .core.events import as_events, as_row_times, as_times
from .core.norm import Tolerance
from .core.options import Options
from .core.problem import as_problem
from .core.sharding import check_sharding
from .core.solution import Piece, Solution
from .core.status import RejectStep, Status
from .core.stop_conditions import Limits
from .core.torch_context import disturbed, eager, undisturbed
from .core.vector_field import VectorField, clamped
from .failure import Case, examine, occurred
from .methods import registry
from .methods.compiled.steps import CompiledSteps
from .methods.compiled.steps import check as check_compiled
from .methods.selection import choose, refuse_steps
from .solve_batched import solve_batched
from .transforms import plan


@eager
def solve(
    f,
    y0=None,
    t=None,
    *,
    method="auto",
    rtol=1e-6,
    atol=1e-9,
    dense=False,
    adjoint="auto",
    args=(),
    jac=None,
    params=None,
    structure="dense",
    mass=None,
    consistent="check",
    compile=False,
    backend="auto",
    batched=False,
    by_row=None,
    throw=True,
    first_step=None,
    step_size=None,
    controller=None,
    min_step=0.0,
    max_step=float("inf"),
    max_steps=100_000,
    max_nfe=None,
    events=(),
    tstops=(),
    jumps=(),
    callback=None,
    max_seconds=None,
    nonnegative=None,
    domain=None,
) -> Solution:
    """Solve dy/dt = f(t, y, *args), y(t[0]) = y0, with outputs at the times t, differentiably.

    f: nn.Module or function f(t, y, *args), t a 0-d tensor and y in the structure of y0; or an
    ODEProblem alone. y0: tensor of any shape, or a tuple or dict of tensors, float32 or float64. t:
    at least two times, strictly increasing or decreasing; a list or a tensor (with gradients, if it
    requires them).
    method: SciML's name in any case ('fbdf', 'rodas5p', 'tsit5', ...; ``pynode methods`` lists
        them), or a pair that switches, 'AutoTsit5(Rodas5P())'. 'auto': by size, tolerance and
        stiffness; Solution.choice says what and why.
    rtol, atol: tolerances; the error of a step is held below atol + rtol |y| in the root mean
        square. atol may be one value a component. Of the order 1e-3 times the smallest values that
        matter is a good atol.
    dense: keep the polynomials of all steps, so that solution(t) works at every t.
    adjoint: how gradients are made (docs/adjoints.md), a name or an object that takes options.
        'auto' and 'discrete': the exact gradient of the steps taken; 'gauss', 'gausskronrod',
        'quadrature', 'interpolating', 'backsolve': a differential equation solved backwards;
        'forward': sensitivities carried along; 'direct': a graph through the whole loop.
        Solution.adjoint and .adjoint_choice say which and why.
        pynode.DiscreteAdjoint(checkpoints=k) keeps k states instead of all,
        DiscreteAdjoint(max_memory='500MB') as many as fit; the gradient is the same. Both have
        second derivatives (not in times and events). Inside torch.func's transforms (grad, jvp,
        jacfwd, jacrev, hessian, vmap) solve is a function of y0, args and the parameters of a
        module f, which must not close over other tensors with derivatives.
    compile: True makes whole steps of explicit and Rosenbrock methods one function, many at a time
        (torch.compile: 5 to 30 s, large models minutes; once for all modules of a kind), for an
        nn.Module that is solved again and again, alone or in batches; with 'auto' by Rodas5P. A
        string names another backend of torch.compile.
    jac: jac(t, y, *args) -> df/dy (n, n), instead of the one by reverse mode.
    structure: how the Jacobian of a large system is made and solved with: 'dense', 'sparse'
        (pattern detected), 'krylov', or pynode.Sparse(pattern), a pattern itself,
        pynode.Banded(lower, upper), pynode.Krylov(precond=...).
    mass: M of M y' = f(t, y), constant, (n, n) or its diagonal; singular for a
        differential-algebraic system of index 1. For BDF, Rosenbrock and Radau methods and the
        L-stable, stiffly accurate diagonally implicit ones.
    consistent: 'check' raises ValueError where y0 violates the algebraic equations of a singular M;
    'solve' makes it hold.
    params: the tensors that gradients shall reach; by default f.parameters(), those in args, and,
        for a plain function, the leaf tensors that it uses.
    batched: the rows of y0, (B, ...), are separate systems: each gets its own steps, order, Newton
        iteration, end and status, and t may be (T, B). f is called with the rows still running, t
        of shape (rows, 1, ...), and the args that belong to the rows cut to these; conditions and
        resets of events likewise, and events occur by row. For explicit, Rosenbrock and diagonally
        implicit methods and BDF. Returns a BatchSolution, differentiable by the discrete adjoint,
        row by row.
    by_row: with batched=True, which of args belong to the rows: True or False for all tensors among
        them, or a bool for each of args. By default those tensors whose first dimension is B, also
        where that is so by chance: declare it then.
    throw: False returns the partial solution with its status instead of raising SolveError.
    backend: 'torch'; 'julia', SciML's solvers by the same names (docs/julia.md; ``pynode doctor``
        looks at the installation), or pynode.JuliaBackend(state='cuda'), with the state on the GPU,
        too; 'auto': torch for every method that it has, Julia for the rest. With batched=True Julia
        takes all rows in one step, with a sparse Jacobian of one block a row, and returns a
        Solution.
    controller: 'I', 'PI' or 'PID' step-size control of one-step methods, instead of the method's
    own. first_step, min_step, max_step, step_size (fixed steps), max_steps, max_nfe: see Options.
    events: Event, PresetTimes or a function condition(t, y, *args), or several; what occurred is in
    solution.events.
    tstops: times that steps end at, for instance the corners of an input. jumps: the same, where f
        is discontinuous: the method starts anew there, and f is not asked across; a tensor may
        require gradients, and with batched=True may be (B, k), a line for each row.
    callback: callback(t, y, stats) after every accepted step; returning True stops the solve
    (Status.CALLBACK). max_seconds: limit on wall-clock time, also inside a step. nonnegative: True
    or flat indices: f sees zero where a stage is below (not in compiled steps), outputs never are.
    domain: domain(t, y) -> bool. A step that leaves these is tried again, smaller, as is one in
    which f raises RejectStep.

    Raises ValueError or TypeError for input that makes no sense, SolveError where the solve fails.
    """
    given = dict(locals())
    problem = as_problem(f, y0, t, args, jac, mass)
    if disturbed(problem):
        alone = {**given, "y0": None, "t": None, "args": (), "jac": None, "mass": None}
        return undisturbed(lambda plain: solve(**{**alone, "f": plain}), problem)
    if plan.active(problem):
        return plan.transformed(solve, problem, given)
    stops = tuple(as_times(tstops, "tstops").detach().tolist())
    options = Options(
        rtol, atol, first_step, step_size, min_step, max_step, max_steps, max_nfe, stops
    )
    if method == "auto" and not compile:
        refuse_steps(step_size, controller)
    choosing = method == "auto" and not batched and is_dense(structure) and problem.mass is None
    if compile and method == "auto":
        choosing = False
        method = "rodas5p"
    engine, method = backends.choose(backend, method)
    method = engine.method("bdf" if method == "auto" else method)
    if controller is not None:
        method = method.controlled(controller)
    choosing_adjoint = adjoint == "auto" and engine.name == "torch"
    adjoint = adjoints.get("discrete" if choosing_adjoint else adjoint, engine.name)
    direct = adjoint == adjoints.DIRECT
    if by_row is not None and not batched:
        raise ValueError(
            "by_row says which of args belong to the rows of a batch: pass batched=True, or leave"
            " by_row away"
        )
    if batched and engine.name == "julia":
        # SciML has one step for all rows, and a Jacobian of as many blocks.
        if method.implicit:
            structure = blocks(structure, problem.y0)
        batched = False
    if compile and engine.name == "julia":
        raise ValueError("compile=True is for the torch engine: leave compile away, or backend")
    if compile:
        if compile is True:
            compiler = "inductor"
        else:
            compiler = compile
    else:
        compiler = None
    if batched:
        if any(x is not None for x in (callback, max_seconds, nonnegative, domain)):
            raise ValueError(
                "callback, max_seconds, nonnegative and domain are not for batched=True: solve the"
                " rows one by one, or all of them as one system"
            )
        if dense:
            raise ValueError(
                "batched=True keeps no polynomials: leave dense away, and name in t the times that"
                " are wanted"
            )
        if problem.jac is not None:
            raise ValueError("batched=True makes the Jacobians of all rows itself: leave jac away")
        if problem.mass is not None or not is_dense(structure):
            raise ValueError(
                "batched=True takes small dense systems without a mass matrix: leave batched away"
            )
        watched = as_events(events)
        boundary = as_row_times(jumps, "jumps")
        return solve_batched(
            problem, method, options, throw, adjoint, params, watched, boundary, compiler, by_row
        )
    layout = problem.layout()
    times = problem.times(layout.device)
    values = times.detach().tolist()
    watched, presets = as_events(events)
    field = VectorField(problem, layout, values[0], params, direct)
    field.mass = Mass.of(problem.mass, layout)
    field.structure = structure_of(structure, method, problem)
    if compile:
        structured = any(
            x is not None for x in (problem.jac, field.mass, field.structure, field.parts)
        )
        check_compiled(problem.f, method, structured)
    limits = Limits.of(layout, field.stats, callback, max_seconds, nonnegative, domain)
    flat = layout.ravel(problem.y0)
    atol = options.flat_atol(layout, flat)
    flat_options = replace(options, atol=atol)
    begin = values[0]
    if limits is None:
        signed = None
    else:
        signed = limits.signed(atol)
    if signed is not None and not compile:  # compiled steps call f themselves
        field.see_nonnegative(signed)
    needs_time = times.requires_grad and torch.is_grad_enabled()
    if direct and (choosing or needs_time or field.mass is not None):
        field.prime(begin, flat)
    flat = make_consistent(field, begin, values[-1], flat, atol, rtol, consistent)
    choice = ""
    if choosing:
        tol = Tolerance(rtol, atol, layout.size)
        method, choice = choose(registry.get, field, values[0], values[-1], flat.detach(), tol)
        method = engine.method(method)
    method.check_dtype(layout.dtype)
    if direct:
        taken = field
    else:
        taken = field.isolated()
    why = ""
    if compile:
        if step_size is None:
            steps = method
        else:
            steps = method.fixed()
        taken.compiled = CompiledSteps(steps, taken, compiler, ahead=callback is None)
    if choosing_adjoint:
        adjoint, why = choose_adjoint(field, method)
    differentiable = torch.is_grad_enabled() and (flat.requires_grad or taken.leaves.any)
    if differentiable and not direct:
        check_sharding(field.held.modules)
        adjoint.check(taken, method)
    taken.settle(adjoint.tape(taken, method) if differentiable and not direct else None)
    inference = callback is None and taken.tape is None and not direct
    inference = inference and serves_inference(taken, values[0], flat.detach())
    field.start = None  # it may hold a graph

    def leg(start, values, watch, origin):
        """From values[0] to values[-1]; start: (n,); origin: what changed the state or f before
        it."""
        if origin is not None or values[0] != begin:
            # What changed nothing leaves the rounding of the polynomial, which is solved for.
            if origin:
                mode = consistent
            else:
                mode = "solve"
            start = make_consistent(field, values[0], values[-1], start, atol, rtol, mode, origin)
        wanted = torch.is_grad_enabled() and (start.requires_grad or taken.leaves.any or direct)

        def run(y, record, curved):
            return engine.integrate(
                taken, method, y, values, options, atol, record, curved, needs_time, watch, limits
            )

        if wanted and direct:
            path = run(start, None, dense)
        else:
            if wanted and adjoint.needs == "steps":
                record = adjoint.record
            else:
                record = None
            curved = dense or (wanted and adjoint.needs == "dense")
            own = start.detach().clone()  # not in inference mode: the gradient evaluates f there
            path = without_graph(lambda: run(own, record, curved), inference)
            if wanted:
                adjoint.admit(taken, path)
                taken.note_end(path)
        count = len(path.ys)

        def differentiable(queries, outputs):
            """outputs(), (m, n) at the queries, as a function of the start and the parameters."""
            if not wanted or direct:
                return outputs()

            gradient = Gradient(adjoint, taken, method, path, queries, flat_options)
            return Integrate.apply(
                outputs, gradient.pullback, gradient.second, start, *taken.leaves.inputs
            )

        def between(queries):
            """The states at times inside the leg, (m, n), from the polynomials of the steps."""
            return differentiable(queries, lambda: path.evaluate(queries))

        queries = values[:count] + [hit.t for hit in path.hits]
        rows = differentiable(queries, lambda: torch.stack(path.ys + [hit.y for hit in path.hits]))
        rows = clamped(rows, signed)
        return Leg(rows[:count], rows[count:], Piece(path, between, signed))

    bounds = boundaries(presets, as_row_times(jumps, "jumps"), values)
    course = Course(field, leg, values, watched, bounds, needs_time)
    course.run(flat, times[0].to(torch.float64))
    field.held.seal()
    ys = course.ys
    reached = times[: len(course.ys)]
    if needs_time:
        ys = _move_outputs(ys, course.slopes, reached)
    if choice and field.stats.switches:
        choice += f"; switches made: {field.stats.switches}"

    def examined():
        path = course.path
        stats = field.stats
        return examine(
            Case(
                problem,
                field,
                layout,
                engine.twin(method),
                method.name,
                course.status,
                path.t,
                path.y,
                flat,
                (values[0], values[-1]),
                options,
                atol,
                (len(ys), len(values)),
                path.attempts,
                stats.accepted + stats.rejected,
                path.times,
                limits,
                occurred(course.records, course.events, course.counts, path.t),
            )
        )

    solution = Solution(
        reached.to(torch.float64),
        layout.unravel(ys),
        course.status,
        _message(field, method, course),
        field.stats,
        method.name,
        layout,
        course.pieces,
        course.records,
        choice,
        getattr(adjoint, "name", adjoint),
        why,
        None if course.status.success else examined,
    )
    if throw:
        return solution.check()
    return solution


def _move_outputs(ys, slopes, times):
    """Outputs with the slope of the solution as derivative in their times; the first output is y0
    itself."""
    times = FirstOrderOnly.apply(times, "the output times")
    moved = (times - times.detach()).to(ys).unsqueeze(1)  # the times may be on another device
    if len(ys) > 1:
        slopes = torch.stack(slopes)
    else:
        slopes = ys[:0]
    return torch.cat((ys[:1], ys[1:] + slopes.detach() * moved[1:]))


def _finite_jacobian(field, path):
    time = torch.full((), path.t, dtype=field.dtype, device=field.device)
    jac = field.user_jac(time, field.layout.unravel(path.y.detach()), *field.args)
    return bool(torch.isfinite(jac).all())


def _message(field, method, course) -> str:
    """How the solve ended, in sentences: where, after what steps, which component moves fastest,
    and what to do."""
    status = course.status
    path = course.path
    times = course.values
    if status is Status.SUCCESS:
        waited = [event.name for event in course.events if event.terminal]
        if len(waited) == 1:
            note = f" The terminal event {waited[0]!r} did not occur."
        else:
            note = ""
        if len(waited) > 1:
            note = f" None of the terminal events {', '.join(waited)} occurred."
        return f"{status.sentence}, t = {course.t:.6g}.{note}"
    if status is Status.EVENT:
        return f"{status.sentence}: {course.stopped.name!r} at t = {course.t:.10g}."
    if status is Status.CALLBACK:
        return f"{status.sentence} at t = {course.t:.6g}."
    parts = [
        f"{method.name}: {status.sentence}, at t = {path.t:.6g} of {times[0]:.6g} to"
        f" {times[-1]:.6g}."
    ]
    sizes = [f"{abs(attempt.h):.2g}" for attempt in path.attempts if attempt.accepted]
    if sizes:
        parts.append("The last steps were " + ", ".join(sizes[-4:]) + ".")
    try:
        parts.append(_fastest(field, path))
    except RejectStep:
        parts.append("There f refuses the state (RejectStep).")
    parts.append(f"What to do: {status.remedy}. print(error.report()) looks for the cause.")
    return " ".join(parts)


def _fastest(field, path) -> str:
    """What f does where the solve ended: not finite, its Jacobian not finite, or which component
    changes fastest."""
    with torch.no_grad():
        slope = field.probe(path.t, path.y.detach())
        if field.mass is not None:
            slope = field.mass.rate(slope)
        bad = (~torch.isfinite(slope)).nonzero().flatten().tolist()
        if bad:
            return f"There f is not finite in component {bad[0]}."
        if field.user_jac is not None and not _finite_jacobian(field, path):
            return (
                "There f is finite, but the Jacobian that jac returns is not: correct jac, or leave"
                " it away."
            )
        i = int((slope.abs() / (path.y.abs() + 1e-30)).argmax())
        return (
            f"There component {i} changes fastest: y = {float(path.y[i]):.3g}, dy/dt ="
            f" {float(slope[i]):.3g}."
        )
