"""``diagnose``: walks along the solution once, looks at it from every side, and recommends how to
solve it."""

from __future__ import annotations

import math
from dataclasses import replace

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
from .dynamics import parting, turns
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
        if rtol is None:
            rtol = f.rtol
        if atol is None:
            atol = f.atol
        if y0 is None:
            y0 = f.y0
        if t is None:
            t = f.tspan
        name = f.name
        f = f.field
    if rtol is None:
        rtol = 1e-6
    if atol is None:
        atol = 1e-9
    problem = as_problem(f, y0, t, args, jac, None)
    if problem.mass is not None:
        raise ValueError(
            "diagnose takes systems without a mass matrix: multiply f by its inverse where it has"
            " one, or look at the differential equations alone"
        )
    layout = problem.layout()
    times = problem.times(layout.device).tolist()
    times = [times[0], times[-1]]
    field = VectorField(problem, layout, times[0])
    flat = layout.ravel(problem.y0).detach()
    if names is None:
        names = None
    else:
        names = tuple(names)
    if names is not None and len(names) != layout.size:
        raise ValueError(f"{len(names)} names for {layout.size} states: give one for each")
    if structure is not None:
        field.structure = structure_of(structure, registry.get("kencarp47"), problem)
    elif layout.size > DENSE_UP_TO:
        field.structure = economical()
    options = Options(rtol, atol)
    limits = options.flat_atol(layout, flat)
    went = walk(field, times, flat, rtol, limits, max_steps, max_seconds)
    size = float(flat.abs().max())
    suited = limits.clamp(max=PROPOSED * rtol * size)
    coarse = bool((ABOVE * suited < limits).any())
    if size > 0 and (size < ABOVE * float(limits.min()) or (coarse and not went.status.success)):
        # An atol that hides the start lets the solution stray: the same again, with one that does
        # not.
        finer = walk(field, times, flat, rtol, suited, max_steps, max_seconds)
        if not went.status.success:
            went = max((went, finer), key=lambda one: abs(one.reached - times[0]))
        else:
            went = finer
    seen = scales(field, went, rtol, limits)
    fine = torch.as_tensor(tolerances(seen, rtol, limits), dtype=layout.dtype, device=layout.device)
    if seen.bad:
        # With the tolerances proposed: under the given ones the walk may have been anything.
        went = walk(field, times, flat, rtol, fine, max_steps, max_seconds)
        seen = scales(field, went, rtol, limits)
        fine = torch.as_tensor(
            tolerances(seen, rtol, limits), dtype=layout.dtype, device=layout.device
        )
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
        parting(field, went),
        jumps(field, went),
        seen,
        costs(field, went, eigenvalues),
        _failure(problem, field, went, options, flat),
    )
    if structure is None:
        if layout.size <= LARGE:
            structures = ["dense"]
        else:
            structures = list(dict.fromkeys(("dense", economical().name, "krylov")))
    else:
        structures = [structure]
    if trials and len(went.times) > 1:
        candidates = finalists(found.costs, eigenvalues, rtol, layout.size, structures)
        raced = race(
            problem, field, went, candidates, rtol, fine, jump_times(found.jumps), max_seconds
        )
        found = replace(found, trials=raced)
    return replace(found, advice=advise(field, found, structures))


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
