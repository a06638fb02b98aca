"""``solve(..., batched=True)``: the rows of a batch as separate systems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from .adjoints.base import Integrate, Rules
from .adjoints.discrete.adjoint import DiscreteAdjoint
from .adjoints.discrete.batched_gradient import RowGradient
from .adjoints.forward import ForwardSensitivity
from .algebra.consistent import consistent_rows
from .algebra.mass import Mass
from .algebra.structure import is_dense, structure_of
from .backends.julia.row_rules import RowsRefused
from .backends.torch import masked_loop
from .backends.torch.batched_loop import RowSpans, integrate
from .backends.torch.batched_segments import BatchSegment, BatchSegmentedSolve
from .backends.torch.batched_tape import RowSteps
from .backends.torch.event_time_gradient import saltated
from .backends.torch.inference import run_in_inference_mode, serves_inference
from .core.batched_field import RowField, check_independent
from .core.events import as_events, as_row_times
from .core.layout import Layout
from .core.memory import raise_if_exhausted
from .core.problem import ODEProblem, check_finite
from .core.sharding import check_sharding
from .core.solution import BatchSolution
from .core.stop_conditions import Limits, RowLimits
from .core.transfer import to_device
from .core.vector_field import VectorField, clamp_negative
from .failure import Case, examine, occurred
from .methods.batched.base import STEPPERS
from .methods.compiled.batched_steps import CompiledRows
from .methods.compiled.steps import check

if TYPE_CHECKING:
    from .backends.julia.rows import JuliaRows
    from .backends.native.batch import NativeRows
    from .backends.native.cuda.batch import CudaRows
    from .backends.torch.batched_event_detection import BatchEventDetector, RowHits
    from .backends.torch.batched_loop import Rows
    from .core.arguments import Arguments
    from .core.options import Options
    from .failure.report import FailureReport
    from .methods.base import Method


def _no_second(grads: Tensor, vectors: Sequence[Tensor | None]) -> NoReturn:
    raise NotImplementedError(
        "batched=True has only first derivatives: for second ones leave out batched"
    )


def serves(method: Method) -> bool:
    """Whether rows have steps of their own under this method, in the torch engine."""
    return STEPPERS.get(method) is not None


def _check_arguments(
    arguments: Arguments, problem: ODEProblem, method: Method, engine: str
) -> None:
    """ValueError for what a solve row by row does not take."""
    if arguments.dense:
        raise ValueError(
            "batched=True keeps no polynomials: leave out dense, and name in t the times that"
            " are wanted"
        )
    if problem.jac is not None:
        raise ValueError("batched=True makes the Jacobians of all rows itself: leave out jac")
    massive = problem.mass is not None
    if (massive and engine != "native") or not is_dense(method.jacobian):
        raise ValueError(
            "batched=True takes small dense systems, and a mass matrix only with backend='native':"
            " leave out batched"
        )
    if massive:
        structure_of("dense", method, problem)  # raises for a method that takes no mass matrix


def solve_batched(
    arguments: Arguments,
    problem: ODEProblem,
    options: Options,
    method: Method,
    adjoint: Any,
    engine: str = "torch",
    passes: int | None = None,
) -> BatchSolution:
    """Solve every row of problem.y0, (B, ...), with its own steps.

    problem.tspan: (T,), or (T, B) with a column for each row. arguments: of ``solve``; method,
    adjoint: objects. engine: 'torch', 'native', 'cuda' or 'julia'. passes: of the torch engine
    (backends/registry.TorchBackend), or None. Raises RowsRefused if rows cannot be separate in
    Julia.
    """
    solution = _BatchSolve(arguments, problem, options, method, adjoint, engine, passes).solution()
    if arguments.throw:
        return solution.check()
    return solution


def _check_method(problem: ODEProblem, method: Method, adjoint: Any, engine: str) -> None:
    """ValueError for a method or an adjoint that does not take rows."""
    if engine == "julia":
        return  # backends/julia/row_rules.py has looked at both.
    if method.compile:
        check(problem.f, False)
    if engine == "torch" and not serves(method):
        raise ValueError(
            f"{method.name} does not run with batched=True: choose an explicit, Rosenbrock or"
            " diagonally implicit method ('tsit5', 'rodas5p', 'kvaerno5'), 'qndf' or 'fbdf'"
        )
    if isinstance(adjoint, ForwardSensitivity):
        # Only the native engine on the CPU carries sensitivities along. The others take each
        # cotangent back by itself: the same numbers, to rounding.
        return
    if not isinstance(adjoint, DiscreteAdjoint):
        raise ValueError(
            "batched=True has the adjoints 'discrete' and 'forward': leave out adjoint, or batched"
        )
    if adjoint.checkpoints is not None or adjoint.max_memory is not None:
        raise ValueError(
            "batched=True keeps all steps: leave out checkpoints and max_memory, or batched"
        )


def _check_dtype(method: Method, dtype: torch.dtype) -> None:
    """TypeError for a dtype that the method, or the rows of a batch, cannot hold."""
    method.check_dtype(dtype)
    if dtype == torch.bfloat16:
        raise TypeError(
            "batched=True holds the coefficients of its method in the dtype of the state, which"
            " three digits do not serve: pass y0.float() and a module in float32, or leave out"
            " batched"
        )


class _BatchSolve:
    """The rows of a batch on their way from the arguments of ``solve`` to a BatchSolution.

    field: f with what is known of it; isolated: the same with the leaf tensors of f cut off from
    their graphs, which the adjoint puts back. flat: the starts, (B, n); times: (T, B) tensor,
    values: the same in NumPy; atol: 0-d, (n,) or (B, n).
    """

    def __init__(
        self,
        arguments: Arguments,
        problem: ODEProblem,
        options: Options,
        method: Method,
        adjoint: Any,
        engine: str,
        passes: int | None,
    ) -> None:
        _check_arguments(arguments, problem, method, engine)
        _check_method(problem, method, adjoint, engine)
        self.engine = engine
        self.passes = passes
        self.adjoint = adjoint
        self.arguments = arguments
        self.problem = problem
        self.options = options
        self.method: Any = method
        self.events = as_events(arguments.events)
        self.jumps = as_row_times(arguments.jumps, "jumps")
        self.field = field = RowField(problem, arguments.by_row)
        self.layout = field.layout
        field.mass = Mass.of(problem.mass, self.layout)
        _check_dtype(method, self.layout.dtype)
        self.flat = self.layout.ravel_rows(problem.y0, field.batch)
        check_finite(self.flat.detach())
        self.times = problem.row_times(self.flat.device, field.batch)
        self.atol = options.flat_atol(self.layout, self.flat)
        self.limits = RowLimits.of(
            field,
            self.times[0].detach().to(torch.float64),
            self.flat.detach(),
            arguments.callback,
            arguments.max_seconds,
            arguments.nonnegative,
            arguments.domain,
            self.atol,
        )
        self.nonnegative_mask = None
        if self.limits is not None:
            self.nonnegative_mask = self.limits.mask
        if self.nonnegative_mask is not None and not method.compile:
            # Compiled steps call f themselves.
            field.see_nonnegative(self.nonnegative_mask)
        moments = self.times.detach()
        self._begin(moments[0])
        self.flat = self._consistent(
            np.arange(field.batch), moments[0].cpu().numpy(), self.flat, arguments.consistent
        )
        if self._has_gradient(self.flat):
            check_sharding(field.module_state.modules)
        self.moving_times = self.times.requires_grad and torch.is_grad_enabled()
        if options.step_size is not None:
            self.method = method.fixed()
        compiler = method.compiler
        if compiler is not None:
            self.isolated.compiled = CompiledRows(self.method, self.isolated, compiler)
        self.inference = False
        graph = field.leaves.any or self.flat.requires_grad or self.moving_times
        if engine == "torch" and not graph:
            self.inference = serves_inference(self.isolated, moments[0], self.flat.detach())
        self.values = moments.cpu().numpy()
        self.stops = np.sort(options.tstops)
        self.crossed: np.ndarray | None = None
        if engine in ("native", "cuda") and len(self.jumps):
            self._cross_jumps()

    def _cross_jumps(self) -> None:
        """Leave to the engine the jumps that it crosses itself: ``crossed``, (B, k), NaN for the
        others."""
        from .backends.native.jumps import crossed_inside, serves

        moved = self.jumps.requires_grad and torch.is_grad_enabled()
        if moved or self.events[0] or self.limits is not None:
            return
        if self.field.mass is not None and self.field.mass.singular:
            # Behind a jump the algebraic equations are others, and the states must satisfy them.
            return
        gradient = self.moving_times or self._has_gradient(self.flat)
        if not serves(self.method, gradient, True):
            return
        own = self.jumps.detach().cpu().numpy()
        own = np.broadcast_to(own, (len(self.flat), own.shape[-1]))
        others = [preset.times.detach().cpu().numpy() for _, preset in self.events[1]]
        ends = (self.values[0][:, None], self.values[-1][:, None])
        inside = crossed_inside(own, others, *ends)
        self.crossed = np.where(inside, own, np.nan)
        left = np.where(inside, np.nan, own)
        # A column that no row needs would cost a division into segments.
        self.jumps = torch.from_numpy(left[:, ~np.isnan(left).all(0)])

    def _consistent(
        self, rows: np.ndarray, t: np.ndarray, y: Tensor, mode: str = "solve"
    ) -> Tensor:
        """The states of some rows at t, (m,), made consistent with the algebraic equations."""
        field = self.field
        if field.mass is None or not field.mass.singular:
            return y
        index = torch.from_numpy(rows)
        atol = self.atol
        if atol.dim() == 2:
            atol = atol[index]
        return consistent_rows(
            field.select(index), torch.from_numpy(t), y, atol, self.options.rtol, mode
        )

    def _begin(self, t: Tensor) -> None:
        """The first evaluations of f. t: (B,) the starts."""
        field = self.field
        try:
            # First with a graph: what f makes at its first call, and keeps, belongs to it.
            field.find_leaves(t, self.flat, self.arguments.params)
            self._check_independent(t)
            self.isolated = field.detach_args()
            if self.engine == "julia":
                self._translate(t)
        # An f that is written for all rows at once can fail in any way when it gets rows.
        except (TypeError, ValueError, RuntimeError, IndexError) as reason:
            raise_if_exhausted(reason)
            if self.engine != "julia":
                raise
            raise RowsRefused(reason) from reason

    def _check_independent(self, t: Tensor) -> None:
        """Raise ValueError if rows of f influence each other. Native code is asked once."""
        check = partial(check_independent, self.field, t, self.flat.detach())
        if self.engine != "native":
            check()
            return
        from .backends.native.row_fields import check_once

        check_once(self.field, self.flat.detach()[0], check)

    def _translate(self, t: Tensor) -> None:
        """Make the native functions of the rows, or raise the reason why not."""
        from .backends.julia.rows import functions_of
        from .backends.native.row_fields import RowFields

        fields = RowFields(self.isolated, float(t[0]), self.flat.detach()[0])
        functions_of(fields, self.method, self._has_gradient(self.flat))

    def _has_gradient(self, start: Tensor) -> bool:
        """Whether a gradient may be asked of what begins at start, (m, n)."""
        return torch.is_grad_enabled() and (start.requires_grad or self.field.leaves.any)

    def segment(
        self,
        rows: np.ndarray,
        start: Tensor,
        t: np.ndarray,
        end: np.ndarray,
        place: np.ndarray,
        attempts: np.ndarray,
        watch: BatchEventDetector | None,
    ) -> BatchSegment:
        """Some rows from their times t to their ends.

        rows: (m,) their numbers; start: (m, n); place: (m,) of the next output of each; attempts:
        (m,) steps that were tried before; watch: looks for events, or None.
        """
        wanted = self._has_gradient(start)
        steps = None
        if wanted and self.engine == "torch":
            steps = RowSteps()
        index = to_device(rows, self.flat.device)
        spans = RowSpans(t, end, self.values[:, rows], place, self.stops, attempts)
        path: Any
        if self.engine in ("native", "cuda"):
            path = self._integrate_natively(index, start, spans, wanted, watch)
        elif self.engine == "julia":
            path = self._integrate_by_julia(index, start, spans, wanted)
        else:
            path = run_in_inference_mode(
                lambda: self._integrate(index, start, spans, steps, watch), self.inference
            )
        counts = path.place - place
        row = np.repeat(np.arange(len(rows)), counts)
        made = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - place, counts)
        hits = None
        if watch is not None and len(watch.hits.row):
            hits = watch.hits
        if hits is None:
            event_states = path.last[:0]
        else:
            event_states = hits.y
        parts = [path.ys[made, row], event_states, path.last]
        joined = torch.cat(parts)
        if wanted:
            times, owners = _queries(self.values[made, rows[row]], row, hits, path.t)
            gradient: Any
            many = None
            if steps is None:
                gradient = self._compiled_gradient(path, times, owners)
                many = getattr(gradient, "pullback_many", None)
            else:
                steps.close(len(rows))
                gradient = RowGradient(self.isolated, index, self.method, steps, times, owners)
            joined = Integrate.apply(
                joined.detach,
                Rules(gradient.pullback, _no_second, many),
                start,
                *self.isolated.leaves.inputs,
            )
        elif self.inference:
            # A graph cannot use a tensor of inference mode.
            joined = joined.clone()
        ys, event_states, ends = joined.split([len(part) for part in parts])
        if self.moving_times:
            slopes = path.slopes[made, row]
        else:
            slopes = None
        return BatchSegment(
            ys, made, row, slopes, event_states, ends, path.t, path.statuses, path.attempts
        )

    def _integrate_natively(
        self,
        index: Tensor,
        start: Tensor,
        spans: RowSpans,
        record: bool,
        watch: BatchEventDetector | None,
    ) -> NativeRows | CudaRows:
        integrate: Callable[..., Any]
        if self.engine == "cuda":
            from .backends.native.cuda.batch import integrate_batch as integrate
        else:
            from .backends.native.batch import integrate_batch as integrate
        more = {}
        if self.crossed is not None:
            more["jumps"] = self.crossed[index.cpu().numpy()]
        return integrate(
            self.isolated,
            self.method,
            start.detach(),
            spans,
            self.options,
            self.atol,
            record,
            self.moving_times,
            self.limits,
            index,
            watch,
            **more,
        )

    def _integrate_by_julia(
        self, index: Tensor, start: Tensor, spans: RowSpans, record: bool
    ) -> JuliaRows:
        from .backends.julia.rows import integrate_rows

        return integrate_rows(
            self.isolated,
            self.method,
            start.detach(),
            spans,
            self.options,
            self.atol,
            record,
            self.limits,
            index,
        )

    def _compiled_gradient(self, path: Any, times: np.ndarray, owners: np.ndarray) -> Any:
        """The gradient of the states of rows at times, (q,) each, of a native solve or Julia's."""
        if self.engine == "julia":
            from .adjoints.julia_rows import JuliaRowGradient

            return JuliaRowGradient(
                self.isolated, path, self.method, self.adjoint, self.options, times, owners
            )
        if self.engine == "cuda":
            from .adjoints.native.cuda_batch import CudaRowGradient

            return CudaRowGradient(self.isolated, path, owners)
        if isinstance(self.adjoint, ForwardSensitivity):
            from .adjoints.native.forward.batch import NativeRowSensitivities

            return NativeRowSensitivities(self.isolated, path, times, owners)
        from .adjoints.native.batch import NativeRowGradient

        return NativeRowGradient(self.isolated, path, owners)

    def _integrate(
        self,
        index: Tensor,
        start: Tensor,
        spans: RowSpans,
        steps: RowSteps | None,
        watch: BatchEventDetector | None,
    ) -> Rows | masked_loop.MaskedRows:
        field = self.isolated
        if len(index) != field.batch:
            field = field.select(index)
        if self._masked(start, watch):
            rows = masked_loop.integrate(
                field,
                self.method,
                start.detach().clone(),
                spans,
                self.options,
                self.atol,
                self.passes,
                steps,
                self.moving_times,
            )
            if rows is not None:
                return rows
        return integrate(
            field,
            STEPPERS.get(self.method),
            self.method,
            start.detach().clone(),
            spans,
            self.options,
            self.atol,
            steps,
            self.moving_times,
            watch,
            self.limits,
            index,
        )

    def _masked(self, start: Tensor, watch: BatchEventDetector | None) -> bool:
        """Whether a segment of rows from start, (m, n), keeps their numbers on the device. The host
        must not need them in each pass."""
        if watch is not None or self.limits is not None or self.field.drawn:
            return False
        if self.passes is None and not masked_loop.attends(start):
            return False
        return masked_loop.serves(self.method, self.options)

    def solution(self) -> BatchSolution:
        events, presets = self.events
        segmented = BatchSegmentedSolve(
            self.field,
            self.segment,
            self.values,
            events,
            presets,
            self.jumps,
            self.moving_times,
            self._consistent,
        )
        segmented.run(self.flat, self.times[0])
        self.field.module_state.seal()
        return BatchSolution(
            t=self.times,
            y=self.layout.unravel(clamp_negative(self._outputs(segmented), self.nonnegative_mask)),
            statuses=segmented.statuses,
            reached=segmented.t,
            stats=self.field.stats,
            method=self.method.name,
            backend=self.engine,
            events=segmented.records,
            layout=self.layout,
            examine=partial(self._examine, segmented),
        )

    def _outputs(self, segmented: BatchSegmentedSolve) -> Tensor:
        """(T, B, n) the outputs, NaN where a row did not arrive."""
        device = self.flat.device
        place, row, states, slopes = segmented.outputs()
        at = to_device(place, device), to_device(row, device)
        shape = (len(self.times), *self.flat.shape)
        ys = self.flat.new_full(shape, torch.nan).index_put(at, states)
        if not self.moving_times:
            return ys
        slopes = self.flat.new_zeros(shape).index_put(at, slopes)
        # The first output is y0 itself, whatever the time.
        return torch.cat((ys[:1], saltated(ys[1:], slopes[1:], self.times[1:])))

    def _limits_of_row(self, field: VectorField, row: int, atol: Tensor) -> Limits | None:
        """The limits of a row that failed, for its report, or None."""
        arguments = self.arguments
        domain = arguments.domain
        if domain is not None:
            domain = _one_row(domain)
        return Limits.of(field.layout, field.stats, None, None, arguments.nonnegative, domain, atol)

    def _examine(self, segmented: BatchSegmentedSolve, row: int) -> FailureReport:
        """The report of a row that failed."""
        own = self.field.select(torch.tensor([row], device=self.flat.device))
        span = (float(self.values[0, row]), float(self.values[-1, row]))
        end = segmented.end_of(row)
        t = float(segmented.t[row])
        if self.atol.dim() == 2:
            atol = self.atol[row]
        else:
            atol = self.atol
        row_events = segmented.row_events
        happened = occurred(segmented.records[row], row_events.events, row_events.counts[row], t)
        single = ODEProblem(
            lambda t, y: own.eval(t.reshape(1), y.unsqueeze(0)).squeeze(0), end, span
        )
        field = VectorField(single, Layout(end), span[0], [])
        field.module_state = self.field.module_state
        field.mass = self.field.mass
        case = Case(
            problem=self.problem,
            field=field,
            layout=self.layout,
            method=self.method,
            name=self.method.name,
            status=segmented.statuses[row],
            t=t,
            y=end,
            start=self.flat[row],
            span=span,
            options=self.options,
            atol=atol,
            outputs=(int(segmented.place[row]), len(self.values)),
            attempts=[],
            steps=int(segmented.attempts[row]),
            times=[],
            limits=self._limits_of_row(field, row, atol),
            events=happened,
            row=row,
        )
        return examine(case)


def _one_row(domain: Callable) -> Callable[[float, Tensor], Any]:
    """The domain of rows for a row alone: t a float, y (...)."""

    def allows(t: float, y: Tensor) -> Any:
        clock = torch.full((1,) + (1,) * max(y.dim(), 1), t, dtype=y.dtype, device=y.device)
        return domain(clock, y.unsqueeze(0))

    return allows


def _queries(
    outputs: np.ndarray, rows: np.ndarray, hits: RowHits | None, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(times, rows) of all states of a segment: outputs, events and ends."""
    times = [outputs]
    owners = [rows]
    if hits is not None:
        times.append(hits.t)
        owners.append(hits.row)
    times.append(ends)
    owners.append(np.arange(len(ends)))
    return np.concatenate(times), np.concatenate(owners)
