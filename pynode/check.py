"""``check_gradients``: a test of a solve's gradient, for a user's own tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from .adjoints import registry
from .adjoints.field_products import magnitudes
from .core.leaves import leaves_of, unique
from .core.problem import ODEProblem, as_problem
from .core.protocols import Adjoint, Times
from .core.suggestions import suggests_options
from .core.vector_field import VectorField
from .integrate import solve
from .methods.base import Method

# A discrete adjoint differentiates exactly the steps of the solve, so that it agrees with their
# graph up to rounding.
ROUNDING = 1e-7


@dataclass(frozen=True)
class GradientCheck:
    """The result of ``check_gradients``; str() is one line.

    vjps: the derivative of the loss along each direction, by the adjoint.
    jvps: the same by a forward product with the derivative of the same steps. Empty without
        same_steps.
    differences: the same by central differences of solves.
    same_steps, error: the largest deviation of vjps from jvps and from differences, relative to the
        largest of all.
    tol, allowed: the limits of error and same_steps.
    worst: if the check failed, the input whose gradient deviates most.
    ok: whether both deviations are within their limits.
    """

    vjps: list[float]
    jvps: list[float]
    differences: list[float]
    same_steps: float
    error: float
    tol: float
    allowed: float
    adjoint: str
    method: str
    worst: str = ""
    ok: bool = field(init=False)

    def __post_init__(self) -> None:
        # NaN fails both tests.
        object.__setattr__(self, "ok", self.error <= self.tol and self.same_steps <= self.allowed)

    def __str__(self) -> str:
        steps = (
            f", from the derivative of the same steps by {self.same_steps:.1e} (allowed"
            f" {self.allowed:.0e})"
        )
        text = (
            f"gradients by {self.adjoint} through {self.method} are"
            f" {'right' if self.ok else 'WRONG'}: they deviate from differences by {self.error:.1e}"
            f" (allowed {self.tol:.0e}){steps if self.jvps else ''}, over {len(self.vjps)} random"
            " directions"
        )
        return text + (f"; the largest deviation is in {self.worst}" if self.worst else "")


@suggests_options
def check_gradients(
    f: Callable[..., Any] | ODEProblem,
    y0: Any = None,
    t: Times | None = None,
    *,
    method: str | Method = "auto",
    adjoint: str | Adjoint = "auto",
    rtol: float = 1e-8,
    atol: float | torch.Tensor = 1e-10,
    directions: int = 3,
    seed: int = 0,
    eps: float = 1e-3,
    tol: float = 1e-3,
    same_steps: bool = True,
    params: Sequence[torch.Tensor] | None = None,
    args: Sequence[Any] = (),
    **options: Any,
) -> GradientCheck:
    """Whether the gradient of ``solve(f, y0, t, ...)`` in y0 and all parameters is right: ``assert
    check_gradients(...).ok``.

    The loss weights all outputs with a random u, each component relative to its size. v is a random
    change of y0 and all parameters, relative to their sizes. There are two tests, in float64:

    - <J^T u, v> by the adjoint against the central difference of solves at +-eps v and +-eps v / 2
      (Richardson), to tol. It finds what f hides from autograd: detached parts, a wrong backward of
      a custom function, randomness.
    - the dot-product test <J^T u, v> = <u, J v>, where J v is a forward product with the derivative
      of the same steps (adjoint="direct", reverse mode twice). The discrete adjoint passes it up to
      rounding, other adjoints up to tol. It finds errors of the adjoint. same_steps=False skips it,
      because it keeps a graph of the whole solve. With backend='native' the torch engine repeats
      the solve for this test.

    rtol, atol: of the solves. They are tight, because differences see errors of the order rtol /
        eps.
    directions: the number of pairs (u, v).

    Other arguments are as in ``solve``. The check moves parameters in place, and restores them.
    Raises ValueError for a state that is not float64, and if nothing requires a gradient.
    """
    problem = as_problem(f, y0, t, args, options.pop("jac", None), options.pop("mass", None))
    layout = problem.layout()
    if layout.dtype != torch.float64:
        raise ValueError(
            f"check gradients in float64, not {layout.dtype}: pass y0.double(), and f.double() if"
            " it is a module"
        )
    if not (isinstance(directions, int) and directions >= 1) or not 0 < eps < 1 or not tol > 0:
        raise ValueError("directions must be at least 1, eps between 0 and 1, and tol positive")
    start = layout.ravel(problem.y0).detach().clone().requires_grad_()
    times = problem.times(layout.device).detach()
    options.update(method=method, rtol=rtol, atol=atol, params=params)
    run = partial(_run, problem, layout, start, times, options)
    with torch.enable_grad():
        leaves = VectorField(problem, layout, float(times[0]), params).leaves
        ys, solution = run(adjoint)
        if same_steps:
            graph = _direct(run, solution, options)
        else:
            graph = None
    parameters = _parameters(start, leaves, params, graph)
    names = _names(problem.f, parameters)
    inputs = [start, *parameters]
    pairs = _pairs(ys, start, parameters, directions, seed)
    grads = []
    jvps = []
    for u, v in pairs:
        grads.append(torch.autograd.grad(ys, inputs, u, retain_graph=True, allow_unused=True))
        if graph is not None:
            jvps.append(float((u * _push(graph, inputs, v)).sum()))
    vjps = [_dot(gradient, v) for gradient, (_, v) in zip(grads, pairs, strict=True)]
    # Last, because it moves the inputs, which the graphs hold.
    differences = [_difference(run, inputs, u, v, eps) for u, v in pairs]
    largest = max(abs(x) for x in (*vjps, *differences)) or 1.0
    error = _largest_deviation(vjps, differences, largest)
    from_steps = _largest_deviation(vjps, jvps, largest)
    name = solution.adjoint
    if name in ("DiscreteAdjoint", registry.DIRECT, "ForwardSensitivity"):
        allowed = ROUNDING
    else:
        allowed = tol
    if error <= tol:
        worst = ""
    else:
        u, v = pairs[0]
        worst = _worst(run, inputs, ["y0", *names], grads[0], u, v, eps)
    return GradientCheck(
        vjps, jvps, differences, from_steps, error, tol, allowed, name, solution.method, worst
    )


def _run(problem, layout, start, times, options, adjoint):
    """(flat outputs (T, n), solution) of a solve from start, (n,), with this adjoint, None for one
    without a gradient. options: the other arguments of ``solve``."""
    if adjoint is None and options.get("backend") == "native":
        adjoint = "discrete"
    elif adjoint is None:
        adjoint = registry.DIRECT
    state = ODEProblem(
        problem.f, layout.unravel(start), times, problem.args, problem.jac, problem.mass
    )
    solution = solve(state, adjoint=adjoint, **options)
    return layout.ravel_rows(solution.y, len(solution.t)), solution


def _direct(run, solution, options):
    """The outputs, (T, n), of a solve whose steps are in the graph. Of native steps the torch
    engine repeats the method."""
    if options.get("backend") == "native":
        method = options["method"]
        if method == "auto":
            method = solution.method
        repeated = {**options, "backend": "torch", "method": method}
        run = partial(run.func, *run.args[:-1], repeated)
    return run(registry.DIRECT)[0]


def _parameters(start, leaves, params, graph):
    """The tensors, other than start, whose gradients are checked; a list without repetitions."""
    if params is None:
        parameters = leaves.inputs
    else:
        parameters = leaves.grad_targets
    if params is None and graph is not None:
        # Everything that the graph of the whole solve reaches, also what the adjoint has missed.
        known = unique([start, *leaves.grad_targets])
        parameters = unique([*known, *leaves_of(graph, known)])[1:]
    return unique(parameters)


def _pairs(ys, start, parameters, directions, seed):
    """[(u, v)]: random weights u, (T, n), of the outputs ys, and changes v of start and the
    parameters, a list of tensors."""
    generator = torch.Generator().manual_seed(seed)
    scale = ys.detach().abs().amax(0).clamp(min=torch.finfo(ys.dtype).tiny)
    # A component that starts at zero moves in proportion to its later values, so that it stays in
    # its domain.
    sizes = [torch.where(start.detach() != 0, start.detach().abs(), scale), *magnitudes(parameters)]
    pairs = []
    for _ in range(directions):
        u = torch.randn(ys.shape, generator=generator, dtype=ys.dtype).to(ys) / scale
        v = [
            size * torch.randn(size.shape, generator=generator, dtype=size.dtype).to(size)
            for size in sizes
        ]
        pairs.append((u, v))
    return pairs


def _names(f, parameters):
    if isinstance(f, torch.nn.Module):
        known = {id(p): name for name, p in f.named_parameters()}
    else:
        known = {}
    return [
        known.get(id(p), f"parameter {i} of shape {tuple(p.shape)}")
        for i, p in enumerate(parameters)
    ]


def _largest_deviation(vjps, others, largest):
    """The largest deviation of vjps from others, relative to largest; 0 if there are no others."""
    if not others:
        return 0.0
    return max(_deviation(a, b, largest) for a, b in zip(vjps, others, strict=True))


def _deviation(a, b, largest):
    if a == a and b == b:
        return abs(a - b) / largest
    return float("inf")


def _dot(grads, v):
    return float(sum((g * x).sum() for g, x in zip(grads, v, strict=True) if g is not None))


def _push(ys, inputs, v):
    """J v, (T, n): <w, J v> = <J^T w, v> differentiated in w."""
    w = torch.zeros_like(ys, requires_grad=True)
    pulled = torch.autograd.grad(ys, inputs, w, create_graph=True, allow_unused=True)
    total = sum((g * x).sum() for g, x in zip(pulled, v, strict=True) if g is not None)
    product = torch.autograd.grad(total, w, allow_unused=True)[0]
    if product is None:
        return torch.zeros_like(w)
    return product


def _difference(run, inputs, u, v, eps):
    """d/ds of <u, y(inputs + s v)> at 0, to fourth order in eps."""
    originals = [x.detach().clone() for x in inputs]

    def slope(step: float) -> float:
        values = []
        for sign in (1.0, -1.0):
            for x, x0, direction in zip(inputs, originals, v, strict=True):
                x.copy_(x0 + sign * step * direction)
            values.append(float((u * run(None)[0]).sum()))
        return (values[0] - values[1]) / (2 * step)

    with torch.no_grad():
        try:
            return (4 * slope(eps / 2) - slope(eps)) / 3
        finally:
            for x, x0 in zip(inputs, originals, strict=True):
                x.copy_(x0)


def _worst(run, inputs, names, grads, u, v, eps):
    """The name of the input for which the adjoint's gradient and the difference deviate most."""
    deviations = []
    for i in range(len(inputs)):
        single = [x if i == j else torch.zeros_like(x) for j, x in enumerate(v)]
        deviations.append(abs(_dot(grads, single) - _difference(run, inputs, u, single, eps)))
    return names[max(range(len(names)), key=lambda i: deviations[i])]
