"""``solve``: the front door. The only file that knows every noun."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor, nn

from .adjoints import registry as adjoints
from .adjoints.base import Gradient, Integrate
from .adjoints.discrete.adjoint import DiscreteAdjoint
from .adjoints.forward import ForwardSensitivity
from .adjoints.selection import choose as choose_adjoint
from .algebra.consistent import consistent as make_consistent
from .algebra.mass import Mass
from .algebra.structure import block_diagonal, structure_of
from .backends import registry as backends
from .backends.julia.row_rules import RowsRefused, obstacle, remember
from .backends.torch.inference import run_in_inference_mode, serves_inference
from .backends.torch.segments import Segment, SegmentedSolve, scheduled_stops
from .core.arguments import Arguments
from .core.autograd import FirstOrderOnly
from .core.events import as_events, as_row_times
from .core.in_kind import as_tensors, has_arrays, is_plain
from .core.norm import Tolerance
from .core.options import Options
from .core.problem import ODEProblem
from .core.sharding import check_sharding
from .core.solution import BatchSolution, DenseSegment, Solution
from .core.stop_conditions import Limits
from .core.suggestions import suggests_options
from .core.torch_context import disallow_tracing, needs_clean_context, run_clean
from .core.unseen_events import refuse_events
from .core.vector_field import VectorField, clamp_negative
from .failure import Case, examine, occurred
from .failure.ending import ending
from .methods import registry
from .methods.compiled.steps import CompiledSteps
from .methods.compiled.steps import check as check_compiled
from .methods.selection import choose, refuse_fixed_steps
from .solve_batched import solve_batched
from .solve_short import short_solve
from .solve_short_rows import short_rows
from .solve_switched import switched_solve, warn_of_transforms
from .transforms import plan

if TYPE_CHECKING:
    from .adjoints.base import Adjoint
    from .backends.registry import Backend
    from .backends.torch.checkpoints import Recording
    from .core.events import Event, PresetTimes
    from .core.protocols import StepObserver
    from .core.trajectory import Trajectory
    from .failure.report import FailureReport
    from .methods.base import Method
    from .problems import Problem


# The tolerances of a solve that says nothing else.
_RTOL = 1e-6
_ATOL = 1e-9


# The type of the result depends on ``batched``. Where Julia takes all rows of a batch as one
# system, its result is a Solution, which the types do not say.
@overload
def solve(
    f: Callable | nn.Module | ODEProblem | Problem,
    y0: Tensor | np.ndarray | tuple | list | dict | None = None,
    t: Sequence[float] | np.ndarray | Tensor | None = None,
    *,
    method: str | type[Method] | Method = "auto",
    rtol: float | None = None,
    atol: float | np.ndarray | Tensor | tuple | list | dict | None = None,
    dense: bool = False,
    adjoint: str | type[Adjoint] | Adjoint = "auto",
    args: Any = (),
    jac: Callable | None = None,
    params: Iterable[Tensor] | None = None,
    mass: Any = None,
    consistent: Literal["check", "solve"] = "check",
    backend: Backend = "auto",
    batched: Literal[False] = False,
    by_row: bool | Sequence[bool] | None = None,
    throw: bool = True,
    first_step: float | None = None,
    step_size: float | None = None,
    min_step: float = 0.0,
    max_step: float = float("inf"),
    max_steps: int = 100_000,
    max_nfe: int | None = None,
    events: Event | PresetTimes | Callable | Sequence[Event | PresetTimes | Callable] = (),
    tstops: Sequence[float] | np.ndarray | Tensor = (),
    jumps: Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor = (),
    callback: Callable | None = None,
    max_seconds: float | None = None,
    nonnegative: bool | Sequence[int] | Tensor | None = None,
    domain: Callable | None = None,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> Solution: ...


@overload
def solve(
    f: Callable | nn.Module | ODEProblem | Problem,
    y0: Tensor | np.ndarray | tuple | list | dict | None = None,
    t: Sequence[float] | np.ndarray | Tensor | None = None,
    *,
    batched: Literal[True],
    **options: Any,
) -> BatchSolution: ...


@suggests_options  # type: ignore[misc]  # it refuses options that the second signature leaves open
@disallow_tracing
def solve(
    f: Callable | nn.Module | ODEProblem | Problem,
    y0: Tensor | np.ndarray | tuple | list | dict | None = None,
    t: Sequence[float] | np.ndarray | Tensor | None = None,
    *,
    method: str | type[Method] | Method = "auto",
    rtol: float | None = None,
    atol: float | np.ndarray | Tensor | tuple | list | dict | None = None,
    dense: bool = False,
    adjoint: str | type[Adjoint] | Adjoint = "auto",
    args: Any = (),
    jac: Callable | None = None,
    params: Iterable[Tensor] | None = None,
    mass: Any = None,
    consistent: Literal["check", "solve"] = "check",
    backend: Backend = "auto",
    batched: bool = False,
    by_row: bool | Sequence[bool] | None = None,
    throw: bool = True,
    first_step: float | None = None,
    step_size: float | None = None,
    min_step: float = 0.0,
    max_step: float = float("inf"),
    max_steps: int = 100_000,
    max_nfe: int | None = None,
    events: Event | PresetTimes | Callable | Sequence[Event | PresetTimes | Callable] = (),
    tstops: Sequence[float] | np.ndarray | Tensor = (),
    jumps: Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor = (),
    callback: Callable | None = None,
    max_seconds: float | None = None,
    nonnegative: bool | Sequence[int] | Tensor | None = None,
    domain: Callable | None = None,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> Solution | BatchSolution:
    """Solve dy/dt = f(t, y, *args), y(t[0]) = y0, and differentiate through the solve.

    The problem:

    f: an nn.Module or a function f(t, y, *args), an ODEProblem without further arguments, or a
        problem of pynode.problems, which has y0, times and tolerances. t is a 0-d tensor, y has the
        structure of y0.
    y0: a tensor of any shape, or a tuple or dict of tensors; float32 or float64. A list of numbers
        stands for a tensor, and numbers in a dict for tensors. With NumPy arrays the solution has
        NumPy arrays too, and no gradient; f gets tensors all the same.
    t: at least two times, strictly increasing or decreasing: a list, an array or a tensor. The
        solution is returned at these times. A tensor that requires gradients gets them.
    args: further arguments of f.
    mass: the constant M of M y' = f(t, y), (n, n) or its diagonal. A singular M makes a
        differential-algebraic system of index 1. BDF, Rosenbrock and Radau methods take it, and
        the diagonally implicit methods that are L-stable and stiffly accurate. With batched=True M
        is that of each row, and backend must be 'native'.
    consistent: 'check' raises ValueError where y0 violates the algebraic equations of a singular
        M; 'solve' corrects y0.
    jac: jac(t, y, *args) -> df/dy, (n, n), instead of reverse-mode differentiation of f.

    The method:

    method: a method with its options, such as pynode.QNDF(jacobian='sparse'), or its name in any
        case for the default options ('fbdf', 'rodas5p', 'tsit5'; ``pynode methods`` lists them).
        Pairs that switch are 'AutoTsit5(Rodas5P())' and AutoTsit5(Rodas5P()). 'auto' chooses by
        size, tolerance and stiffness, and Solution.choice says why. The options:
        jacobian, of implicit methods: how the Jacobian of a large system is made and solved with:
        'dense', 'sparse' (the pattern is detected), 'krylov', a pattern, pynode.Sparse(pattern),
        pynode.Banded(lower, upper) or pynode.Krylov(precond=...).
        controller, of explicit, Rosenbrock and diagonally implicit methods: 'I', 'PI' or 'PID'.
        compile, of explicit and Rosenbrock methods: True compiles whole steps with torch.compile.
        This takes 5 to 30 s, minutes for large models, once for all modules of a kind. It pays for
        an nn.Module that is solved again and again. A string names another backend of
        torch.compile.
    rtol, atol: the error of a step stays below atol + rtol |y| in the root mean square. atol is
        one value or one for each component. A good atol is about 1e-3 times the smallest value
        that matters. By default 1e-6 and 1e-9, or what a problem of pynode.problems suggests.
    first_step, step_size, min_step, max_step, max_steps, max_nfe: see Options. step_size asks for
        fixed steps.
    backend: 'torch'; 'native' for the same methods in compiled code, which needs an f that can be
        translated (docs/native.md); 'julia' for SciML's solvers of the same names (docs/julia.md;
        ``pynode doctor`` examines the installation); pynode.JuliaBackend(state='cuda') to keep the
        state on the GPU there; pynode.NativeBackend(device='cuda') for the rows of a batch in one
        kernel on a GPU; pynode.TorchBackend(passes=16) to leave the host out of 16 passes of a
        batch on a GPU; 'auto' takes torch for every method that it has, and Julia for the rest.
        Solution.backend names the engine.

    The gradient:

    adjoint: how gradients are made (docs/adjoints.md), a name or an object with options. 'auto'
        and 'discrete' give the exact gradient of the steps taken. 'gauss', 'gausskronrod',
        'quadrature', 'interpolating' and 'backsolve' solve a differential equation backwards.
        'forward' carries sensitivities along. 'direct' keeps a graph through the whole loop.
        Solution.adjoint and .adjoint_choice say which one was taken and why.
        pynode.DiscreteAdjoint(checkpoints=k) keeps k states instead of all,
        DiscreteAdjoint(max_memory='500MB') as many as fit; the gradient is the same. 'discrete'
        and 'direct' have second derivatives (not in times and events).
    params: the tensors that gradients reach. By default these are f.parameters(), those in args
        and, for a plain function, the leaf tensors that it uses.

    Inside torch.func's transforms (grad, jvp, jacfwd, jacrev, hessian, vmap) solve is a function of
    y0, args and the parameters of a module f. f must not close over other tensors with derivatives.

    Events, stops and limits:

    events: Event, PresetTimes or a function condition(t, y, *args), or several of them.
        Solution.events lists what occurred.
    tstops: times at which a step must end, such as the corners of an input.
    jumps: times at which f jumps. The method starts anew there and never asks f across. A tensor
        may require gradients, and with batched=True it may be (B, k), a line for each row.
    callback: callback(t, y, stats) after every accepted step. True ends the solve with
        Status.CALLBACK. With batched=True t is (B,) and y (B, ...), where the rows stand, and a
        bool tensor (B,) ends single rows.
    max_seconds: limit on wall-clock time; it also holds inside a step.
    nonnegative: True or flat indices of components. f sees zero where a stage is negative (not in
        compiled steps), and outputs are never negative.
    domain: domain(t, y) -> bool. A step to a state for which it is False is refused and tried
        again, smaller. f may raise RejectStep for the same purpose. With batched=True t is (rows,
        1, ...), y (rows, ...) and the answer a bool tensor (rows,).

    Batches:

    batched: True treats the rows of y0, (B, ...), as separate systems. Each row has its own steps,
        order, Newton iteration, end and status, and t may be (T, B). f gets only the rows that
        still run, t of shape (rows, 1, ...) and the args of these rows; conditions and resets of
        events likewise. Explicit, Rosenbrock and diagonally implicit methods and BDF take rows.
        The result is a BatchSolution, differentiable by the discrete adjoint. Julia solves each row
        by itself where f can become native code and nothing has to be asked between the steps, and
        differentiates it by NativeGauss. Otherwise Julia gets all rows as one system, whose steps
        they share, and the result is a Solution (docs/julia.md, Batches).
    by_row: which args belong to the rows of a batch: True, False, or a bool for each. By default
        those tensors whose first dimension is B; declare it where that is so by chance.

    The result:

    dense: True keeps the polynomials of all steps, so that solution(t) works at every t.
    names: the names of the components of y0, for tables, pictures and messages. By default the
        attribute ``state_names`` of f.
    progress: True shows the time reached, the steps and the time left, as a bar in a terminal or a
        notebook, otherwise in lines to stderr.
    throw: False returns the partial solution with its status instead of raising SolveError.

    Raises ValueError or TypeError for input that makes no sense, SolveError where the solve fails.
    """
    rtol, atol = _tolerances(f, rtol, atol)
    arguments = Arguments(
        f=f,
        y0=y0,
        t=t,
        method=method,
        rtol=rtol,
        atol=atol,
        dense=dense,
        adjoint=adjoint,
        args=args,
        jac=jac,
        params=params,
        mass=mass,
        consistent=consistent,
        backend=backends.plain(backend),
        batched=batched,
        by_row=by_row,
        throw=throw,
        first_step=first_step,
        step_size=step_size,
        min_step=min_step,
        max_step=max_step,
        max_steps=max_steps,
        max_nfe=max_nfe,
        events=events,
        tstops=tstops,
        jumps=jumps,
        callback=callback,
        max_seconds=max_seconds,
        nonnegative=nonnegative,
        domain=domain,
        names=names,
    )
    if progress:
        return _shown(arguments)
    return _in_kind(arguments)


def _tolerances(f: Any, rtol: Any, atol: Any) -> tuple[Any, Any]:
    """The tolerances; where they are open, what a problem of pynode.problems suggests, or the
    defaults."""
    suggests = hasattr(type(f), "ode_problem")
    if rtol is None:
        rtol = _RTOL
        if suggests:
            rtol = f.rtol
    if atol is None:
        atol = _ATOL
        if suggests:
            atol = f.atol
            if isinstance(atol, tuple):
                atol = torch.tensor(atol, dtype=f.y0.dtype)
    return rtol, atol


def _shown(arguments: Arguments) -> Solution | BatchSolution:
    """The solve with a display of its progress."""
    from .core.solve_progress import SolveProgress

    problem = arguments.problem()
    with SolveProgress(problem.tspan) as display:
        return _in_kind(replace(arguments, callback=display.beside(arguments.callback)))


def _in_kind(arguments: Arguments) -> Solution | BatchSolution:
    """The solve of a start of tensors, numbers or arrays. Arrays are answered with arrays."""
    y0 = arguments.y0
    if not is_plain(y0):
        return run(arguments)
    arguments = replace(arguments, y0=as_tensors(y0, arguments.f))
    if not has_arrays(y0):
        return run(arguments)
    with torch.no_grad():
        return run(arguments).with_arrays()


def run(arguments: Arguments) -> Solution | BatchSolution:
    """``solve`` with its arguments as a record: normalise, choose, integrate, wrap."""
    problem = arguments.problem()
    if arguments.params is not None and not isinstance(arguments.params, (list, tuple)):
        # It can be a generator, which gives its tensors once.
        arguments = replace(arguments, params=tuple(arguments.params))
    if needs_clean_context(problem):
        rest = replace(arguments, y0=None, t=None, args=(), jac=None, mass=None)
        return run_clean(lambda plain: run(replace(rest, f=plain)), problem)
    refuse_events(problem.f)
    if plan.active(problem):
        warn_of_transforms(problem)
        return plan.transformed(run, problem, arguments)
    switched = switched_solve(run, arguments, problem)
    if switched is not None:
        return switched
    solution: Solution | BatchSolution | None
    if arguments.batched:
        solution = short_rows(arguments, problem)
    else:
        solution = short_solve(arguments, problem)
    if solution is not None:
        return solution
    options = arguments.options()
    choice = _choose(arguments, problem)
    if choice.batched:
        try:
            return solve_batched(
                arguments,
                problem,
                options,
                choice.method,
                choice.adjoint,
                choice.engine.name,
                _passes(choice.engine),
            )
        except RowsRefused as reason:
            if choice.engine.hooks == "native":
                raise
            remember(problem.f, str(reason))
            choice = _joint(choice, problem)
    solution = _SingleSolve(arguments, problem, options, choice).solution()
    if arguments.throw:
        return solution.check()
    return solution


def _passes(engine: Any) -> int | None:
    """How many passes of a batch follow one another without the host."""
    if isinstance(engine, backends.TorchBackend):
        return engine.passes
    return None


class _Choice(NamedTuple):
    """By what a problem is solved.

    engine, method: objects; adjoint: an object, or adjoints.DIRECT. method_is_open,
    adjoint_is_open: whether the field decides later. structure: of the Jacobian, as the method says
    it. batched: whether the engine takes the rows one by one.
    """

    engine: Any
    method: Any
    method_is_open: bool
    adjoint: Any
    adjoint_is_open: bool
    structure: object
    batched: bool


def _choose(arguments: Arguments, problem: ODEProblem) -> _Choice:
    """What can be chosen before f is evaluated. ValueError for what does not fit together."""
    method: Any = arguments.method
    batched = arguments.batched
    method_is_open = False
    if method == "auto":
        refuse_fixed_steps(arguments.step_size)
        method_is_open = not batched and problem.mass is None
    engine, method = backends.choose(arguments.backend, method)
    if arguments.method == "auto" and engine.name == "native":
        # It chooses none that takes no mass matrix.
        method_is_open = not batched
    if method == "auto":
        method = "bdf"
    method = engine.method(method)
    if engine.name == "cuda" and not batched:
        engine.integrate()  # raises
    structure = method.jacobian
    adjoint_is_open = arguments.adjoint == "auto" and engine.name == "torch"
    adjoint: Any = arguments.adjoint
    if adjoint_is_open:
        adjoint = "discrete"
    adjoint = adjoints.get(adjoint, engine.name)
    if arguments.by_row is not None and not batched:
        raise ValueError(
            "by_row says which of args belong to the rows of a batch: pass batched=True, or leave"
            " out by_row"
        )
    if _passes(engine) is not None and not batched:
        raise ValueError(
            "passes are for the rows of a batch: pass batched=True, or leave out passes"
        )
    choice = _Choice(
        engine=engine,
        method=method,
        method_is_open=method_is_open,
        adjoint=adjoint,
        adjoint_is_open=adjoint_is_open,
        structure=structure,
        batched=batched,
    )
    if isinstance(engine, backends.JuliaBackend) and batched:
        reason = obstacle(arguments, problem, method, adjoint, engine)
        if reason and engine.hooks == "native":
            raise RowsRefused(reason)
        if reason:
            return _joint(choice, problem)
    return choice


def _joint(choice: _Choice, problem: ODEProblem) -> _Choice:
    """The choice for a batch of which Julia makes one system: SciML has one step for all rows, and
    a Jacobian of as many blocks."""
    structure = choice.structure
    if choice.method.implicit:
        structure = block_diagonal(structure, problem.y0)
    return choice._replace(structure=structure, batched=False)


class _SingleSolve:
    """One system on its way from its arguments to its Solution.

    field: f with what is known of it; isolated: the same with the leaf tensors of f cut off from
    their graphs, which the adjoint puts back (the field itself where the graph goes through the
    loop). flat: the start, (n,); times: (T,) tensor, values: the same as floats; atol: 0-d or (n,).
    nonnegative_mask: mask of the components that must not be negative, or None.
    """

    def __init__(
        self, arguments: Arguments, problem: ODEProblem, options: Options, choice: _Choice
    ) -> None:
        self.arguments = arguments
        self.problem = problem
        self.engine = choice.engine
        self.method = choice.method
        self.adjoint = choice.adjoint
        self.direct = choice.adjoint == adjoints.DIRECT
        self.why_method = ""
        self.why_adjoint = ""
        self.options = options
        self.layout = problem.layout()
        self.times = problem.times(self.layout.device)
        self.values = self.times.detach().tolist()
        self.events, self.presets = as_events(arguments.events)
        self.moving_times = self.times.requires_grad and torch.is_grad_enabled()
        self.field = self._make_field(choice.structure)
        self.flat = self.layout.ravel(problem.y0)
        self.atol = self.options.flat_atol(self.layout, self.flat)
        self.limits = Limits.of(
            self.layout,
            self.field.stats,
            arguments.callback,
            arguments.max_seconds,
            arguments.nonnegative,
            arguments.domain,
            self.atol,
        )
        self.nonnegative_mask = None
        if self.limits is not None:
            self.nonnegative_mask = self.limits.mask
        self._start(choice)
        self._choose_by_field(choice)
        self._isolate()

    def _make_field(self, structure: object) -> VectorField:
        problem = self.problem
        field = VectorField(
            problem, self.layout, self.values[0], self.arguments.params, self.direct
        )
        field.mass = Mass.of(problem.mass, self.layout)
        field.structure = structure_of(structure, self.method, problem)
        if self.method.compile:
            structured = (problem.jac, field.mass, field.structure, field.parts)
            given = any(part is not None for part in structured)
            check_compiled(problem.f, given)
        return field

    def _start(self, choice: _Choice) -> None:
        """The first evaluations of f, and a start that satisfies the algebraic equations."""
        field = self.field
        if self.nonnegative_mask is not None and not self.method.compile:
            # Compiled steps call f themselves.
            field.see_nonnegative(self.nonnegative_mask)
        later = choice.method_is_open or self.moving_times or field.mass is not None
        if self.direct and later:
            field.prime(self.values[0], self.flat)
        self.flat = self._consistent(self.values, self.flat, self.arguments.consistent)

    def _consistent(
        self, values: list[float], start: Tensor, mode: str, origin: str | None = None
    ) -> Tensor:
        """The start of a segment, (n,), made consistent with the algebraic equations."""
        rtol = self.options.rtol
        return make_consistent(
            self.field, values[0], values[-1], start, self.atol, rtol, mode, origin
        )

    def _choose_by_field(self, choice: _Choice) -> None:
        """The method, and whether it can run in the dtype of the state."""
        if choice.method_is_open:
            tol = Tolerance(self.options.rtol, self.atol, self.layout.size)
            problem = (self.field, self.values[0], self.values[-1], self.flat.detach(), tol)
            if self.engine.name == "native":
                name, self.why_method = self.engine.choose(*problem)
            else:
                name, self.why_method = choose(registry.get, *problem)
            self.method = self.engine.method(name)
        self.method.check_dtype(self.layout.dtype)
        if choice.adjoint_is_open:
            self.adjoint, self.why_adjoint = choose_adjoint(self.field, self.method)

    def _isolate(self) -> None:
        """The field as the integrator gets it, and whether the solve may run in inference mode."""
        field = self.field
        if self.direct:
            isolated = field
        else:
            isolated = field.detach_args()
        callback = self.arguments.callback
        if self.method.compile:
            steps = self.method
            if self.options.step_size is not None:
                steps = steps.fixed()
            isolated.compiled = CompiledSteps(
                steps, isolated, self.method.compiler, ahead=callback is None
            )
        tape = None
        if not self.direct and self._has_gradient(isolated, self.flat):
            check_sharding(field.module_state.modules)
            self.adjoint.check(isolated, self.method)
            tape = self.adjoint.tape(isolated, self.method)
        isolated.use_tape(tape)
        self.inference = False
        native = self.engine.name == "native"
        if callback is None and isolated.tape is None and not self.direct and not native:
            self.inference = serves_inference(isolated, self.values[0], self.flat.detach())
        self.isolated = isolated
        field.start = None  # It may hold a graph.

    def _has_gradient(self, field: VectorField, start: Tensor) -> bool:
        """Whether a gradient may be asked of what begins at start, (n,)."""
        return torch.is_grad_enabled() and (start.requires_grad or field.leaves.any)

    def segment(
        self, start: Tensor, values: list[float], watch: StepObserver | None, origin: str | None
    ) -> Segment:
        """From values[0] to values[-1].

        start: (n,); watch: looks for events, or None; origin: what changed the state or f before
        this segment, None at the start of the solve.
        """
        if origin is not None or values[0] != self.values[0]:
            # What changed nothing leaves the rounding of the polynomial, which is solved for.
            if origin:
                mode = self.arguments.consistent
            else:
                mode = "solve"
            start = self._consistent(values, start, mode, origin)
        wanted = self._has_gradient(self.isolated, start)
        if torch.is_grad_enabled() and self.direct:
            path = self._integrate(start, values, watch, None, self.arguments.dense)
            wanted = False
        else:
            path = self._integrate_without_graph(start, values, watch, wanted)
        if wanted:
            gradient = _SegmentGradient(self, path, start)
        else:
            gradient = None

        def outputs_at(queries: Sequence[float], outputs: Callable[[], Tensor]) -> Tensor:
            if gradient is None:
                return outputs()
            return gradient.outputs_at(queries, outputs)

        def between(queries: Sequence[float]) -> Tensor:
            """The states at times inside the segment, (m, n), from the polynomials of the steps."""
            return outputs_at(queries, lambda: path.evaluate(queries))

        count = path.output_count
        queries = values[:count] + [hit.t for hit in path.hits]
        rows = outputs_at(queries, path.outputs)
        rows = clamp_negative(rows, self.nonnegative_mask)
        return Segment(
            rows[:count], rows[count:], DenseSegment(path, between, self.nonnegative_mask)
        )

    def _integrate_without_graph(
        self, start: Tensor, values: list[float], watch: StepObserver | None, wanted: bool
    ) -> Trajectory:
        record = None
        if wanted and self.adjoint.needs == "steps":
            record = self.adjoint.record
        dense = self.arguments.dense or (wanted and self.adjoint.needs == "dense")
        # Not in inference mode: the gradient evaluates f there.
        own = start.detach().clone()
        path = run_in_inference_mode(
            lambda: self._integrate(own, values, watch, record, dense), self.inference
        )
        if wanted:
            self.adjoint.validate_trajectory(self.isolated, path)
            if self.engine.name != "native":
                self.isolated.note_final_slope(path)
        return path

    def _integrate(
        self,
        start: Tensor,
        values: list[float],
        watch: StepObserver | None,
        record: Callable[..., Recording] | None,
        dense: bool,
    ) -> Trajectory:
        return self.engine.integrate(
            self.isolated,
            self.method,
            start,
            values,
            self.options,
            self.atol,
            record,
            dense,
            self.moving_times,
            watch,
            self.limits,
        )

    def solution(self) -> Solution:
        jumps = self._left_jumps(as_row_times(self.arguments.jumps, "jumps"))
        bounds = scheduled_stops(self.presets, jumps, self.values)
        field = self.field
        segmented = SegmentedSolve(
            field, self.segment, self.values, self.events, bounds, self.moving_times
        )
        segmented.run(self.flat, self.times[0].to(torch.float64))
        field.module_state.seal()
        ys = segmented.ys
        reached = self.times[: len(ys)]
        if self.moving_times:
            ys = _move_outputs(ys, segmented.slopes, reached)
        choice = self.why_method
        if choice and field.stats.switches:
            choice += f"; switches made: {field.stats.switches}"
        examined = None
        if not segmented.status.success:
            examined = partial(self._examine, segmented)
        return Solution(
            t=reached.to(torch.float64),
            y=self.layout.unravel(ys),
            status=segmented.status,
            message=ending(field, self.method, segmented),
            stats=field.stats,
            method=self.method.name,
            backend=self.engine.name,
            hooks=getattr(segmented.path, "hooks", ""),
            layout=self.layout,
            segments=segmented.pieces,
            events=segmented.records,
            choice=choice,
            adjoint=getattr(self.adjoint, "name", self.adjoint),
            adjoint_choice=self.why_adjoint,
            examine=examined,
        )

    def _left_jumps(self, jumps: Tensor) -> Tensor:
        """The jumps, (k,), that divide the solve: all but those that the engine crosses itself."""
        arguments = self.arguments
        moved = jumps.requires_grad and torch.is_grad_enabled()
        looked = self.events or arguments.dense or arguments.callback is not None
        if self.engine.name != "native" or jumps.dim() > 1 or not len(jumps) or moved or looked:
            return jumps
        if self.field.mass is not None and self.field.mass.singular:
            # Behind a jump the algebraic equations are others, and the state must satisfy them.
            return jumps
        gradient = self.moving_times or self._has_gradient(self.isolated, self.flat)
        from .backends.native.jumps import crossed_inside, serves

        if not serves(
            self.method, gradient, isinstance(self.adjoint, (DiscreteAdjoint, ForwardSensitivity))
        ):
            return jumps
        values = jumps.detach().cpu().numpy()
        others = [preset.times.detach().cpu().numpy() for _, preset in self.presets]
        if any(times.ndim > 1 for times in others):
            return jumps
        first = np.array(self.values[:1])
        last = np.array(self.values[-1:])
        inside = crossed_inside(values, others, first, last)
        self.options = replace(self.options, jumps=tuple(values[inside].tolist()))
        return jumps[torch.from_numpy(~inside)]

    def _examine(self, segmented: SegmentedSolve) -> FailureReport:
        """The report of a failed solve."""
        path = segmented.path
        stats = self.field.stats
        happened = occurred(segmented.records, segmented.events, segmented.counts, path.t)
        case = Case(
            problem=self.problem,
            field=self.field,
            layout=self.layout,
            method=self.engine.twin(self.method),
            name=self.method.name,
            status=segmented.status,
            t=path.t,
            y=path.y,
            start=self.flat,
            span=(self.values[0], self.values[-1]),
            options=self.options,
            atol=self.atol,
            outputs=(len(segmented.ys), len(self.values)),
            attempts=path.attempts,
            steps=stats.accepted + stats.rejected,
            times=path.times,
            limits=self.limits,
            events=happened,
        )
        return examine(case)


class _SegmentGradient:
    """The outputs of a segment as functions of its start and of the tensors of f."""

    def __init__(self, solve: _SingleSolve, path: Trajectory, start: Tensor) -> None:
        self.adjoint = solve.adjoint
        self.field = solve.isolated
        self.method = solve.method
        self.options = replace(solve.options, atol=solve.atol)
        self.path = path
        self.start = start

    def outputs_at(self, queries: Sequence[float], outputs: Callable[[], Tensor]) -> Tensor:
        """outputs(), (m, n) at the queries, with the gradient of the adjoint."""
        gradient = Gradient(self.adjoint, self.field, self.method, self.path, queries, self.options)
        return Integrate.apply(outputs, gradient.rules, self.start, *self.field.leaves.inputs)


def _move_outputs(ys: Tensor, slopes: list[Tensor], times: Tensor) -> Tensor:
    """Outputs with the slope of the solution as derivative in their times; the first output is y0
    itself."""
    times = FirstOrderOnly.apply(times, "the output times")
    moved = (times - times.detach()).to(ys).unsqueeze(1)  # the times may be on another device
    if len(ys) > 1:
        rates = torch.stack(slopes)
    else:
        rates = ys[:0]
    return torch.cat((ys[:1], ys[1:] + rates.detach() * moved[1:]))
