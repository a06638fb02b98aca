"""``solve_sde``: one path of a stochastic differential equation for every row of the state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

from ..core.problem import ODEProblem
from ..core.protocols import Times
from ..core.solution import Solution
from ..core.status import Status
from ..core.suggestions import suggests_options
from ..core.torch_context import check_solvable, disallow_tracing, needs_clean_context, run_clean
from .brownian import BrownianPath
from .equation import SDE
from .schemes import SCHEMES, step

HALVINGS = 10


class SDESolution(Solution):
    """The Solution of a stochastic equation. brownian: the noise of the computed path."""

    brownian: BrownianPath


@disallow_tracing
@suggests_options
def solve_sde(
    drift: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    diffusion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    y0: torch.Tensor,
    t: Times,
    *,
    dt: float,
    method: Literal["EM", "Milstein", "ImplicitEM", "ImplicitMilstein"] | str = "em",
    noise_dim: int | None = None,
    brownian: BrownianPath | None = None,
    throw: bool = True,
) -> SDESolution:
    """Solve Itô's dy = drift(t, y) dt + diffusion(t, y) dW, y(t[0]) = y0, in steps of at most dt.

    drift: nn.Module or function f(t, y) -> (..., d), t a 0-d tensor.
    diffusion: g(t, y) -> (..., d), where every component has its own noise, or (..., d, noise_dim)
        for a noise of noise_dim components.
    y0: (..., d) float32 or float64. Each row is a separate path: repeat a state to get several
        paths from it.
    t: at least two times, increasing. The steps divide the time between two outputs evenly.
    method: 'EM' (Euler and Maruyama, strong order 0.5, weak order 1), 'Milstein' (strong order 1,
        if diffusion i depends only on y_i). For a stiff drift 'ImplicitEM' and 'ImplicitMilstein'
        evaluate the drift at the end of the step, by Newton's iteration for each row. If the
        iteration fails, the step is halved.
    brownian: the noise, a BrownianPath with the shape of dW over the span, of either dtype. None
        makes a new one from torch's random numbers; torch.manual_seed repeats it.
    throw: False returns the partial solution instead of raising SolveError.

    Gradients reach y0 and all tensors of drift and diffusion, by autograd through the steps. They
    are those of the computed path for fixed noise, up to rounding, for any dt. (A stochastic
    adjoint, solved backwards, has them only in the limit dt -> 0, with an error of the order of the
    scheme.) Memory grows with the number of steps.

    Returns an SDESolution: y (T, ..., d), and the noise as .brownian. Raises SolveError if states
    overflow, and ValueError or TypeError for input that makes no sense.
    """
    problem = ODEProblem(drift, y0, t)
    if needs_clean_context(problem):
        return run_clean(
            lambda plain: solve_sde(
                drift,
                diffusion,
                plain.y0,  # type: ignore[arg-type]  # one tensor, as y0 is
                t,
                dt=dt,
                method=method,
                noise_dim=noise_dim,
                brownian=brownian,
                throw=throw,
            ),
            problem,
        )
    scheme = _scheme(method)
    layout = problem.layout()
    times = problem.times(None).detach().to(torch.float64)
    values = times.tolist()
    _check(scheme, layout, y0, values, dt, noise_dim)
    sde = SDE(drift, diffusion, y0, noise_dim)
    counts = [max(1, math.ceil((b - a) / dt - 1e-9)) for a, b in zip(values, values[1:])]
    if brownian is None:
        brownian = _new_path(sde, values, counts, layout)
    elif brownian.shape != sde.noise_shape:
        raise ValueError(
            f"the Brownian path has shape {brownian.shape} where the noise has {sde.noise_shape}"
        )
    if scheme.milstein:
        sde.check_diagonal(values[0], y0.detach())
    if scheme.implicit:
        sde.check_rows(values[0], y0.detach())
    ys, status = _integrate(scheme, sde, brownian, values, counts, y0)
    message = _message(scheme, status, values, len(ys))
    solution = SDESolution(
        times[: len(ys)], torch.stack(ys), status, message, sde.stats, scheme.name, layout, []
    )
    solution.brownian = brownian
    if throw:
        solution.check()
    return solution


def _scheme(method):
    """The Scheme of this name. Raises ValueError if there is none."""
    if isinstance(method, str):
        scheme = SCHEMES.get(method.lower())
    else:
        scheme = None
    if scheme is None:
        raise ValueError(
            f"method must be one of {', '.join(s.name for s in SCHEMES.values())}, not {method!r}"
        )
    return scheme


def _check(scheme, layout, y0, values, dt, noise_dim):
    """Raises ValueError or TypeError if the arguments of ``solve_sde`` make no sense. layout: of
    the state; values: the times as floats."""
    if not layout.single or y0.dim() == 0:
        raise ValueError(
            "the state of an SDE is one tensor, (..., d), with at least one component; join the"
            " parts into it"
        )
    if scheme.implicit:
        check_solvable(layout.dtype, scheme.name, "or take 'em' or 'milstein'")
    if values[-1] < values[0]:
        raise ValueError(
            "t needs at least two times, strictly increasing: the noise of an SDE runs forward in"
            " time"
        )
    if not (isinstance(dt, (int, float)) and dt > 0):
        raise ValueError(
            f"dt must be a positive number, the largest step in units of t, not {dt!r}"
        )
    if noise_dim is None:
        return
    if isinstance(noise_dim, bool) or not isinstance(noise_dim, int) or noise_dim < 1:
        raise ValueError(
            "noise_dim must be how many components the noise has, an integer of at least 1, not"
            f" {noise_dim!r}"
        )
    if scheme.milstein:
        raise ValueError(
            "Milstein's scheme needs diagonal noise (others need Lévy areas): remove noise_dim,"
            " or take 'em'"
        )


def _new_path(sde, values, counts, layout):
    """A BrownianPath from torch's random numbers, on the grid of the steps: counts[i] steps from
    values[i] to the next."""
    seed = int(torch.randint(2**62, ()))
    grid = [a + (b - a) * i / n for a, b, n in zip(values, values[1:], counts) for i in range(n)]
    return BrownianPath(
        sde.noise_shape, [*grid, values[-1]], seed=seed, dtype=layout.dtype, device=layout.device
    )


def _integrate(scheme, sde, brownian, values, counts, y0):
    """(list of the states (..., d) at the times reached, Status). counts[i] steps lead from
    values[i] to the next."""
    ys = [y0]
    for a, b, count in zip(values, values[1:], counts):
        y = ys[-1]
        reached = a
        for i in range(count):
            if i == count - 1:
                end = b
            else:
                end = a + (b - a) * (i + 1) / count
            y = _advance(scheme, sde, brownian, reached, end, y, HALVINGS)
            if y is None:
                return ys, Status.NEWTON
            reached = end
        if not bool(torch.isfinite(y.detach()).all()):
            return ys, Status.DIVERGED
        ys.append(y)
    return ys, Status.SUCCESS


def _message(scheme, status, values, reached):
    """How the solve ended, in a sentence. values: the times; reached: how many of them."""
    if status is Status.SUCCESS:
        return f"{status.sentence}, t = {values[-1]:.6g}."
    return (
        f"{scheme.name}: {status.sentence}, between t = {values[reached - 1]:.6g} and the next"
        f" output. What to do: {status.remedy}."
    )


def _advance(scheme, sde, brownian, start, end, y, halvings):
    """The state at end, in one step. If Newton's iteration fails, in smaller steps with the same
    noise; None if they fail too."""
    new = step(scheme, sde, start, end - start, y, brownian.increment(start, end).to(y))
    if new is not None:
        sde.stats.accepted += 1
        return new
    sde.stats.newton_failures += 1
    if halvings == 0:
        return None
    middle = 0.5 * (start + end)
    half = _advance(scheme, sde, brownian, start, middle, y, halvings - 1)
    if half is None:
        return None
    return _advance(scheme, sde, brownian, middle, end, half, halvings - 1)
