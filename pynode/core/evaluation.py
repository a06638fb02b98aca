"""The first evaluation of f in a solve, and the later test whether f is still the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# The number of results that show whether f writes into the same memory again.
WATCHED = 4


class RandomState:
    """The state of torch's random numbers, on the CPU and on the device of a field."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.states = self._now()

    def _now(self):
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def moved(self) -> bool:
        """Whether code has drawn random numbers since then."""
        return not all(torch.equal(a, b) for a, b in zip(self.states, self._now(), strict=True))

    def restore(self) -> None:
        """Restore the state, so that the same random numbers follow."""
        torch.set_rng_state(self.states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.states[1], self.device)


class Evaluation(NamedTuple):
    """f with its graph. result: f, detached. leaf: the state that f received, (n,). out: f,
    (n,)."""

    result: torch.Tensor
    leaf: torch.Tensor
    out: torch.Tensor


class FirstEvaluation(NamedTuple):
    """f at the start of a solve: t, y and f(t, y), (n,). random: the RandomState before. drawn:
    whether f drew random numbers.

    graph: the Evaluation, if f received a leaf and no code has used it yet.
    """

    t: float
    y: torch.Tensor
    f: torch.Tensor
    random: RandomState
    drawn: bool
    graph: Evaluation | None

    def is_at(self, t: float, y: Tensor) -> bool:
        """Whether the evaluation was at (t, y)."""
        return t == self.t and torch.equal(y, self.y)


class Reuse:
    """Whether f writes its results into the same memory again. The solver then copies them.

    open: whether this is unknown or true.
    """

    def __init__(self) -> None:
        self.open = True
        self._copies = False
        self._results: list[Tensor] = []
        self._places: set[int] = set()

    def own(self, out: Tensor) -> Tensor:
        """out, or a copy if f may overwrite it."""
        place = out.data_ptr()
        if not self._copies and place in self._places:
            # The earlier results are still alive here, so only f itself can reuse their memory.
            self._copies = True
            self._results = []
        if self._copies:
            return out.clone()
        self._results.append(out)
        self._places.add(place)
        if len(self._results) == WATCHED:
            self.open = False
            self._results = []
        return out.clone()


CHANGED = (
    "f does not return what it returned in the solve (at t = {t:.6g} it differs by {difference:.1e}"
    " of its size), so pynode can no longer compute its gradient: {reason}, or use adjoint='direct'"
)
LATER = (
    "its weights, buffers, mode (train or eval) or the variables that it closes over have changed"
    " since. Call backward() before they change, bind loop variables as defaults (lambda t, y, a=a:"
    " ...) or pass them in args"
)
REFUSED = (
    "f refuses the state at t = {t:.6g}, which it accepted in the solve, so pynode can no longer"
    " compute its gradient: " + LATER + ", or use adjoint='direct'"
)
RANDOM = (
    "it draws random numbers, as Dropout does. Call eval(), fix the noise for the whole solve, use"
    " an explicit method, which stores its evaluations for the gradient"
)


def check_same(t: float, y: Tensor, before: Tensor, now: Tensor, h: float, drawn: bool) -> None:
    """Raise RuntimeError if f at (t, y) was ``before`` in the solve and is ``now`` different,
    beyond rounding.

    h: a step of the solve there. A difference that changes y in one step by less than its rounding
    does not count. drawn: whether f draws random numbers.
    """
    if torch.equal(before, now):
        return
    eps = torch.finfo(before.dtype).eps
    both_bad = ~torch.isfinite(before) & ~torch.isfinite(now)
    difference = float((now - before).masked_fill(both_bad, 0.0).abs().max())
    size = float(torch.maximum(before.abs(), now.abs()).nan_to_num(0.0, 0.0, 0.0).max())
    if h:
        rounding = 16 * eps * float(y.abs().max()) / abs(h)
    else:
        rounding = 0.0
    if difference <= eps**0.5 * size + rounding:
        return
    if size:
        relative = difference / size
    else:
        relative = difference
    if drawn:
        reason = RANDOM
    else:
        reason = LATER
    raise RuntimeError(CHANGED.format(t=t, difference=relative, reason=reason))


BLIND = (
    "f has no graph, although its result depends on y: it runs under torch.no_grad() or detaches"
    " its result, so all gradients would be zero. Remove no_grad, detach and .data from f, or call"
    " solve under torch.no_grad()"
)


def check_graph(evaluate: Callable[[Tensor], Tensor], y: Tensor) -> None:
    """Raise RuntimeError if evaluate(y) depends on y although it has no graph."""
    with torch.no_grad():
        here = evaluate(y)
        moved = evaluate(y * 1.001 + 1e-3)
    if not torch.equal(here, moved):
        raise RuntimeError(BLIND)
