"""``solve``: the front door. The only file that knows every noun."""

from __future__ import annotations

import torch

from .adjoints.base import Integrate
from .adjoints.discrete import DiscreteAdjoint
from .algebra.consistent import consistent as make_consistent
from .algebra.mass import Mass
from .algebra.structure import structure_of
from .backends.torch import integrate
from .field import VectorField
from .methods import registry
from .options import Options
from .problem import ODEProblem
from .solution import Solution
from .status import Status

ADJOINTS = ("discrete", "direct")


def solve(
    f, y0=None, t=None, *, method="auto", rtol=1e-6, atol=1e-9, dense=False, adjoint="auto", args=(), jac=None, params=None,
    structure="dense", mass=None, consistent="check", throw=True, first_step=None, step_size=None, controller=None,
    min_step=0.0, max_step=float("inf"), max_steps=100_000, max_nfe=None,
) -> Solution:
    """Solve dy/dt = f(t, y, *args), y(t[0]) = y0, with outputs at the times t, differentiably.

    f: nn.Module or function f(t, y, *args), t a 0-d tensor and y in the structure of y0; or an ODEProblem alone.
    y0: tensor of any shape, or a tuple or dict of tensors, float32 or float64.
    t: at least two times, strictly increasing or decreasing; a list or a tensor (with gradients, if it requires them).
    method: SciML's name in any case ('fbdf', 'rodas5p', 'tsit5', ...; ``pynode methods`` lists them). 'auto': BDF.
    rtol, atol: tolerances; the error of a step is held below atol + rtol |y| in the root mean square. atol may be one value
        a component. Of the order 1e-3 times the smallest values that matter is a good atol.
    dense: keep the polynomials of all steps, so that solution(t) works at every t.
    adjoint: 'auto' and 'discrete': the exact gradient of the steps taken; 'direct': a graph through the whole loop.
    jac: jac(t, y, *args) -> df/dy (n, n), instead of the one by reverse mode.
    structure: how the Jacobian of a large system is made and solved with: 'dense', 'sparse' (pattern detected), 'krylov', or
        pynode.Sparse(pattern), a pattern itself, pynode.Banded(lower, upper), pynode.Krylov(precond=...).
    mass: M of M y' = f(t, y), constant, (n, n) or its diagonal; singular for a differential-algebraic system of index 1.
    consistent: 'check' raises ValueError where y0 violates the algebraic equations of a singular M; 'solve' makes it hold.
    params: the tensors that gradients shall reach; by default f.parameters(), those in args, and, for a plain function,
        the leaf tensors that it uses.
    throw: False returns the partial solution with its status instead of raising SolveError.
    controller: 'I', 'PI' or 'PID' step-size control of one-step methods, instead of the method's own.
    first_step, min_step, max_step, step_size (fixed steps), max_steps, max_nfe: see Options.

    Raises ValueError or TypeError for input that makes no sense, SolveError where the solve fails.
    """
    problem = f if isinstance(f, ODEProblem) else ODEProblem(f, y0, t, args, jac, mass)
    method = registry.get("bdf" if method == "auto" else method)
    if controller is not None:
        method = method.controlled(controller)
    if adjoint not in ("auto", *ADJOINTS):
        raise ValueError(f"unknown adjoint {adjoint!r}: choose one of 'auto', 'discrete', 'direct'")
    options = Options(rtol, atol, first_step, step_size, min_step, max_step, max_steps, max_nfe)
    layout = problem.layout()
    times = problem.times(layout.device)
    values = times.detach().tolist()
    field = VectorField(problem, layout, values[0], params)
    field.mass, field.structure = Mass.of(problem.mass, layout), structure_of(structure, method, problem)
    flat = layout.ravel(problem.y0)
    atol = options.flat_atol(layout, flat)
    flat = initial = make_consistent(field, values[0], values[-1], flat, atol, rtol, consistent)
    needs_time = times.requires_grad and torch.is_grad_enabled()
    if needs_time:
        flat = _move_start(field, flat, times)
    wanted = torch.is_grad_enabled() and (flat.requires_grad or bool(field.parameters))

    def run(start, keep):
        return integrate(field, method, start, values, options, atol, keep, dense, needs_time)

    if wanted and adjoint == "direct":
        path = run(flat, keep=dense)
        ys = torch.stack(path.ys)
    elif wanted:
        path = _without_graph(run, flat.detach(), True)
        ys = _differentiable(field, method, path, values, lambda: torch.stack(path.ys), flat)
    else:
        path = _without_graph(run, flat.detach(), dense)
        ys = torch.stack(path.ys)
    reached = times[: len(ys)]
    if needs_time:
        ys = _move_outputs(ys, path, reached, initial)
    message = _message(field, method, path, values)

    def between(queries):
        """The states at times inside the span, (m, n), from the polynomials of the steps."""
        if wanted and adjoint != "direct":
            return _differentiable(field, method, path, queries, lambda: path.evaluate(queries), flat)
        return path.evaluate(queries)

    solution = Solution(
        reached.to(torch.float64), layout.unravel(ys), path.status, message, field.stats, method.name, layout, path, between
    )
    return solution.check() if throw else solution


def _differentiable(field, method, path, times, outputs, flat):
    """outputs(), (m, n) at the times, as a function of y0 and the parameters with the discrete adjoint as derivative."""

    def pullback(grads):
        return DiscreteAdjoint().pullback(field, method, path, times[: len(grads)], grads)

    return Integrate.apply(outputs, pullback, flat, *field.parameters)


def _without_graph(run, start, keep):
    """The integration in inference mode, a fifth cheaper an operation than no_grad; again without it where f refuses it
    (a field that differentiates inside itself must)."""
    try:
        with torch.inference_mode():
            return run(start, keep)
    except RuntimeError:
        with torch.no_grad():
            return run(start, keep)


def _move_start(field, flat, times):
    """y0 with dy0/dt0 = -f(t0, y0): how the solution changes when it starts later."""
    with torch.no_grad():
        f0 = field.slope(float(times[0]), flat.detach())
    return flat - f0 * (times[0] - times[0].detach()).to(flat.dtype)


def _move_outputs(ys, path, times, start):
    """Outputs with the slope of the solution as derivative in their times; the first output is y0 itself."""
    moved = (times - times.detach()).to(ys.dtype).unsqueeze(1)
    slopes = torch.stack(path.slopes[: len(ys) - 1]) if len(ys) > 1 else ys[:0]
    return torch.cat((start.unsqueeze(0), ys[1:] + slopes.detach() * moved[1:]))


def _message(field, method, path, times) -> str:
    """How the solve ended, in sentences: where, after what steps, which component moves fastest, and what to do."""
    status = path.status
    if status is Status.SUCCESS:
        return f"{status.sentence}, t = {path.t:.6g}."
    parts = [f"{method.name}: {status.sentence}, at t = {path.t:.6g} of {times[0]:.6g} to {times[-1]:.6g}."]
    if path.sizes:
        parts.append("The last steps were " + ", ".join(f"{abs(h):.2g}" for h in path.sizes[-4:]) + ".")
    with torch.no_grad():
        slope = field.slope(path.t, path.y.detach())
        bad = (~torch.isfinite(slope)).nonzero().flatten().tolist()
        if bad:
            parts.append(f"There f is not finite in component {bad[0]}.")
        else:
            i = int((slope.abs() / (path.y.abs() + 1e-30)).argmax())
            parts.append(f"There component {i} changes fastest: y = {float(path.y[i]):.3g}, dy/dt = {float(slope[i]):.3g}.")
    parts.append(f"What to do: {status.remedy}.")
    return " ".join(parts)
