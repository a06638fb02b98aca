"""``diagnose``: walks along the solution once, looks at it from every side, and recommends how to
solve it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch

from ..algebra.structure import structure_of
from ..core.options import Options
from ..core.problem import as_problem
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
from .race import finalists, race
from .reference_solve import DENSE_UP_TO, economical, walk
from .scales import ABOVE, PROPOSED, scales
from .spectrum import spectrum

LARGE = 300  # states from which on the structure of the Jacobian is found out by trials


def diagnose(
    f,
    y0=None,
    t=None,
    *,
    rtol=None,
    atol=None,
    args=(),
    jac=None,
    structure=None,
    names=None,
    trials=True,
    max_steps=10_000,
    max_seconds=60.0,
) -> Diagnosis:
    """What makes dy/dt = f(t, y, *args) from y(t[0]) = y0 hard or easy, and how to solve it best.

    f: nn.Module or function f(t, y, *args) with y0 and t as in ``solve`` (of t the ends count); an
        ODEProblem; a pynode.problems.Problem or the name of one, with its own y0 and times unless
        others are given.
    rtol, atol: the tolerances that the solve is to have; by default those of the Problem, else 1e-6
    and 1e-9.
    structure: of the Jacobian, as in ``solve``; by default dense up to 1000 states, then sparse
        where SciPy is installed, else 'krylov'. Above 300 states the trials find out which is
        faster, unless it is given.
    names: (n,) names of the flat components, for the report.
    trials: False leaves the timed solves away; the recommendation then rests on estimates.
    max_steps: of the walk; max_seconds: of the walk, and of all trials together. At these limits,
        or where f jumps back and forth so that they would be met, the part that was reached is
        diagnosed. A solve that fails is a finding, not an error.

    Costs two solves by Rodas5P (above 100 states one by KenCarp47), 40 Jacobians with their
    eigenvalues (above 300 states 40 products of 40 Jacobians with vectors), and the trials.
    Gradients are not touched. Raises ValueError or TypeError for input that makes no sense.
    """
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
    field = _field(problem, layout, times, structure)
    flat = layout.ravel(problem.y0).detach()
    options = Options(rtol, atol)
    limits = options.flat_atol(layout, flat)
    walk_with = partial(
        walk, field, times, flat, rtol, max_steps=max_steps, max_seconds=max_seconds
    )
    went, seen, fine = _walked(walk_with, field, times, flat, rtol, limits)
    eigenvalues = spectrum(field, went)
    periods = eigenvalues.integral(eigenvalues.frequency()) / (2 * math.pi)
    found = Diagnosis(
        name,
        names,
        layout,
        rtol,
        limits,
        times[-1],
        went,
        eigenvalues,
        periods,
        turns(went),
        lyapunov_growth(field, went),
        jumps(field, went),
        seen,
        costs(field, went, eigenvalues),
        _failure(problem, field, went, options, flat),
    )
    structures = _structures(structure, layout.size)
    if trials and len(went.times) > 1:
        candidates = finalists(found.costs, eigenvalues, rtol, layout.size, structures)
        raced = race(
            problem, field, went, candidates, rtol, fine, jump_times(found.jumps), max_seconds
        )
        found = replace(found, trials=raced)
    return replace(found, advice=advise(field, found, structures))


def _of_problem(problem, y0, t, rtol, atol):
    """(f, y0, t, rtol, atol): those given, and the Problem's own where None is given."""
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
    """(layout of the state, [first time, last time] as floats); ValueError where the problem has a
    mass matrix."""
    if problem.mass is not None:
        raise ValueError(
            "diagnose takes systems without a mass matrix: multiply f by its inverse where it has"
            " one, or look at the differential equations alone"
        )
    layout = problem.layout()
    times = problem.times(layout.device).tolist()
    return layout, [times[0], times[-1]]


def _field(problem, layout, times, structure):
    """The vector field, with the structure given for its Jacobian, or one that suits its size."""
    field = VectorField(problem, layout, times[0])
    if structure is not None:
        field.structure = structure_of(structure, registry.get("kencarp47"), problem)
    elif layout.size > DENSE_UP_TO:
        field.structure = economical()
    return field


def _walked(walk_with, field, times, start, rtol, atol):
    """(Walk, Scales, atol as it suits): a walk with tolerances that do not hide the solution.

    walk_with(atol): the Walk from start, (n,); atol: 0-d or (n,), as given.
    """
    went = walk_with(atol)
    size = float(start.abs().max())
    suited = atol.clamp(max=PROPOSED * rtol * size)
    coarse = bool((ABOVE * suited < atol).any())
    if size > 0 and (size < ABOVE * float(atol.min()) or (coarse and not went.status.success)):
        # An atol that hides the start lets the solution stray: the same again, with one that does
        # not.
        finer = walk_with(suited)
        if not went.status.success:
            went = max((went, finer), key=lambda one: abs(one.reached - times[0]))
        else:
            went = finer
    seen = scales(field, went, rtol, atol)
    fine = _fine(seen, field, rtol, atol)
    if seen.bad:
        # With the tolerances proposed: under the given ones the walk may have been anything.
        went = walk_with(fine)
        seen = scales(field, went, rtol, atol)
        fine = _fine(seen, field, rtol, atol)
    return went, seen, fine


def _fine(seen, field, rtol, atol):
    """atol as it suits the scales seen, a tensor, 0-d or (n,)."""
    layout = field.layout
    return torch.as_tensor(tolerances(seen, rtol, atol), dtype=layout.dtype, device=layout.device)


def _structures(structure, size):
    """Those of the Jacobian that the trials take: the one given, or those that serve so many
    states."""
    if structure is not None:
        return [structure]
    if size <= LARGE:
        return ["dense"]
    return list(dict.fromkeys(("dense", economical().name, "krylov")))


def _failure(problem, field, went, options, start):
    """Why the walk ended before its time, None where it did not."""
    if went.status.success:
        return None
    span = (went.path.times[0], went.path.times[-1])
    return examine_failure(
        Case(
            problem,
            field,
            field.layout,
            went.method,
            went.method.name,
            went.status,
            went.reached,
            went.path.y,
            start,
            span,
            options,
            went.tol.atol,
            (len(went.path.ys), len(went.path.times)),
            went.path.attempts,
            len(went.attempts),
        )
    )
