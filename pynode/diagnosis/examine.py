"""``diagnose``: makes one reference solve, measures the problem along it, and recommends how to
solve it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ..algebra.structure import structure_of
from ..backends.registry import native_engine
from ..core.options import Options
from ..core.problem import ODEProblem, as_problem
from ..core.protocols import Times
from ..core.suggestions import suggests_options
from ..core.vector_field import VectorField
from ..failure import Case
from ..failure import examine as examine_failure
from ..methods import registry
from ..problems import Problem, get
from .advice import advise, jump_times, tolerances
from .costs import costs
from .diagnosis import Diagnosis
from .discontinuities import jumps
from .dynamics import lyapunov_growth, turns
from .race import finalists, has_native_code, race
from .reference_solve import DENSE_UP_TO, economical, solve_reference, starts
from .scales import ABOVE, PROPOSED, scales
from .spectrum import spectrum

ENGINES = ("auto", "torch", "native")
LARGE = 300  # above so many states, trials choose the structure of the Jacobian


@suggests_options
def diagnose(
    f: str | Problem | ODEProblem | Callable[..., Any],
    y0: Any = None,
    t: Times | None = None,
    *,
    rtol: float | None = None,
    atol: float | torch.Tensor | None = None,
    args: Sequence[Any] = (),
    jac: Callable[..., torch.Tensor] | None = None,
    structure: Any = None,
    names: Sequence[str] | None = None,
    trials: bool = True,
    max_steps: int = 10_000,
    max_seconds: float = 60.0,
    backend: str = "auto",
) -> Diagnosis:
    """What makes dy/dt = f(t, y, *args) from y(t[0]) = y0 hard or easy, and how to solve it best.

    f: nn.Module or function f(t, y, *args) with y0 and t as in ``solve`` (only the first and last
        time count); an ODEProblem; a pynode.problems.Problem or the name of one. A Problem has its
        own y0 and times, which arguments can replace.
    rtol, atol: the tolerances that the solve will have. The default is that of the Problem,
        otherwise 1e-6 and 1e-9.
    structure: of the Jacobian, as in ``solve``. By default it is dense up to 1000 states, then
        sparse if SciPy is installed, else 'krylov'. Above 300 states the trials choose the faster
        one, unless it is given.
    names: (n,) names of the flat components, for the report.
    trials: False skips the timed solves. The recommendation then uses only estimates.
    max_steps: of the reference solve.
    max_seconds: of the reference solve, and of all trials together. At these limits, the part that
        was reached is diagnosed. The same holds if f jumps back and forth, so that the limits would
        be reached. A solve that fails is a finding, not an error.
    backend: the engine of all solves, 'torch' or 'native', and of the methods that compete. 'auto'
        is 'torch'. The native engine makes its own Jacobian, so leave out jac and structure. Code
        that it compiles first does not count as time of a solve.

    Costs two solves by Rodas5P (above 100 states one by KenCarp47), 40 Jacobians with their
    eigenvalues (above 300 states 40 products each of 40 Jacobians with vectors), and the trials.
    Computes no gradients. Raises ValueError or TypeError for input that makes no sense, and for
    what backend='native' does not take.
    """
    native = _is_native(backend)
    if isinstance(f, str):
        f = get(f)
    name = getattr(f, "__name__", type(f).__name__).replace("<lambda>", "f")
    if isinstance(f, Problem):
        name = f.name
        f, y0, t, rtol, atol = _of_problem(f, y0, t, rtol, atol)
    if rtol is None:
        rtol = 1e-6
    if atol is None:
        atol = 1e-9
    problem = as_problem(f, y0, t, args, jac, None)
    layout, times = _checked(problem)
    if names is not None:
        names = tuple(names)
        if len(names) != layout.size:
            raise ValueError(f"{len(names)} names for {layout.size} states: give one for each")
    if native:
        _check_native(jac, structure)
    field = _field(problem, layout, times, structure)
    flat = layout.ravel(problem.y0).detach()
    options = Options(rtol, atol)
    limits = options.flat_atol(layout, flat)
    solver = solve_reference
    # Where f is not finite at the start there are no steps to take.
    if native and starts(field, times[0], flat):
        solver = _native_solver()
    solve_with = partial(
        solver, field, times, flat, rtol, max_steps=max_steps, max_seconds=max_seconds
    )
    reference, sizes, fine = _reference(solve_with, field, times, flat, rtol, limits)
    eigenvalues = spectrum(field, reference)
    periods = eigenvalues.integral(eigenvalues.frequency()) / (2 * math.pi)
    diagnosis = Diagnosis(
        name,
        names,
        layout,
        rtol,
        limits,
        times[-1],
        reference,
        eigenvalues,
        periods,
        turns(reference),
        lyapunov_growth(field, reference),
        jumps(field, reference),
        sizes,
        costs(field, reference, eigenvalues),
        _failure(problem, field, reference, options, flat),
    )
    structures = _structures(structure, layout.size, native)
    if trials and len(reference.times) > 1:
        candidates = finalists(diagnosis.costs, eigenvalues, rtol, layout.size, structures)
        if native:
            candidates = [one for one in candidates if has_native_code(one[0])]
        known = jump_times(diagnosis.jumps)
        raced = race(problem, field, reference, candidates, rtol, fine, known, max_seconds)
        diagnosis = replace(diagnosis, trials=raced)
    return replace(diagnosis, advice=advise(field, diagnosis, structures))


def _of_problem(problem, y0, t, rtol, atol):
    """(f, y0, t, rtol, atol): those given; for None those of the Problem."""
    if y0 is None:
        y0 = problem.y0
    if t is None:
        t = problem.tspan
    if rtol is None:
        rtol = problem.rtol
    if atol is None:
        atol = problem.atol
    return problem.field, y0, t, rtol, atol


def _checked(problem):
    """(layout of the state, [first time, last time] as floats). Raises ValueError if the problem
    has a mass matrix."""
    if problem.mass is not None:
        raise ValueError(
            "diagnose takes systems without a mass matrix: multiply f by its inverse if it has"
            " one, or diagnose only the differential equations"
        )
    layout = problem.layout()
    times = problem.times(layout.device).tolist()
    return layout, [times[0], times[-1]]


def _field(problem, layout, times, structure):
    """The vector field, with the given structure of its Jacobian, or with one that suits its
    size."""
    field = VectorField(problem, layout, times[0])
    if structure is not None:
        field.structure = structure_of(structure, registry.get("kencarp47"), problem)
    elif layout.size > DENSE_UP_TO:
        field.structure = economical()
    return field


def _native_solver() -> Callable:
    from .native_steps import solve_native_reference

    return solve_native_reference


def _reference(solve_with, field, times, start, rtol, atol):
    """(ReferenceSolve, Scales, suitable atol): a reference solve whose tolerances do not hide the
    solution.

    solve_with(atol): the ReferenceSolve from start, (n,); atol: 0-d or (n,), as given.
    """
    reference = solve_with(atol)
    size = float(start.abs().max())
    suited = atol.clamp(max=PROPOSED * rtol * size)
    coarse = bool((ABOVE * suited < atol).any())
    hidden = size < ABOVE * float(atol.min())
    if size > 0 and (hidden or (coarse and not reference.status.success)):
        # An atol that hides the start makes the solution wrong: solve again with a suitable one.
        finer = solve_with(suited)
        if not reference.status.success:
            reference = max((reference, finer), key=lambda one: abs(one.reached - times[0]))
        else:
            reference = finer
    sizes = scales(field, reference, rtol, atol)
    fine = _suitable_atol(sizes, field, rtol, atol)
    if sizes.bad:
        # The given tolerances may have made the reference solve meaningless: use those proposed.
        reference = solve_with(fine)
        sizes = scales(field, reference, rtol, atol)
        fine = _suitable_atol(sizes, field, rtol, atol)
    return reference, sizes, fine


def _suitable_atol(sizes, field, rtol, atol):
    """The atol that suits the scales, a tensor, 0-d or (n,)."""
    layout = field.layout
    suited = tolerances(sizes, rtol, atol)
    return torch.as_tensor(suited, dtype=layout.dtype, device=layout.device)


def _is_native(backend):
    """Whether native code makes the solves. Raises ValueError for another engine than torch, or if
    packages are missing."""
    if backend not in ENGINES:
        raise ValueError(
            f"diagnose has no backend {backend!r}: choose one of {', '.join(ENGINES)}; write"
            " methods of another engine into pynode.compare"
        )
    if backend == "native":
        native_engine()
    return backend == "native"


def _check_native(jac, structure):
    """ValueError for Jacobians that the native engine does not take."""
    for name, given in (("jac", jac), ("structure", structure)):
        if given is not None:
            raise ValueError(
                f"the native engine makes the Jacobian of f itself: leave out {name}, or"
                " backend='native'"
            )


def _structures(structure, size, native):
    """The structures of the Jacobian for the trials: the given one, or those that suit this number
    of states."""
    if structure is not None:
        return [structure]
    if native or size <= LARGE:
        return ["dense"]
    return list(dict.fromkeys(("dense", economical().name, "krylov")))


def _failure(problem, field, reference, options, start):
    """Why the reference solve failed, None if it did not."""
    if reference.status.success:
        return None
    path = reference.path
    span = (path.times[0], path.times[-1])
    return examine_failure(
        Case(
            problem,
            field,
            field.layout,
            reference.method,
            reference.method.name,
            reference.status,
            reference.reached,
            path.y,
            start,
            span,
            options,
            reference.tol.atol,
            (len(path.ys), len(path.times)),
            path.attempts,
            len(reference.attempts),
        )
    )
