"""The neural ordinary differential equation. Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018, eq. (2)."""

from __future__ import annotations

import inspect

import torch

from ..events import as_events
from ..solve import solve
from ..status import Status
from .along import NOISES, Along, draw
from .regularisers import as_regularisers


class NeuralODE(torch.nn.Module):
    """y(t) of dy/dt = field(t, y), y(t_0) = input.

    field: nn.Module with forward(t, y), or forward(y) for an autonomous field; y has the shape of the input.
    t: default times, at least two, kept as a buffer (float64); without ``t`` in the call these are used.
    last_only: return the state at the last time alone, shape of the input, so that the module fits in nn.Sequential;
        None (default): where the call gives no t.
    regularisers: one or several of pynode.nn.regularisers, integrated beside y in training mode. Then the first dimension of y
        numbers rows that do not know one another (y of one dimension is a single row). ``penalty`` is the sum of their means
        over the rows in the last call, times their weights, to be added to the loss; ``penalties`` has each by name, a value
        a row.
    options: of ``solve`` (method, rtol, atol, adjoint, max_steps, ...).

    ``stats`` holds the counts of the last solve, ``events`` what occurred where options has events. Raises SolveError where a
    solve fails, ValueError for options by which it may end before its last time (throw=False, terminal events), because what
    a call returns is the state at that time.
    """

    def __init__(
        self, field, t=(0.0, 1.0), *, method="auto", rtol=1e-6, atol=1e-9, last_only=None, regularisers=(), **options
    ):
        super().__init__()
        if not isinstance(field, torch.nn.Module):
            raise TypeError(f"field must be an nn.Module, so that its parameters are found, not {type(field).__name__}")
        self.field = field
        self.register_buffer("t", torch.as_tensor(t, dtype=torch.float64), persistent=False)
        self.last_only = last_only
        self.options = {"method": method, "rtol": rtol, "atol": atol, **options}
        self.regularisers = as_regularisers(regularisers)
        self.stats, self.events, self.penalties, self._heard_by = None, [], {}, []
        self._check_end()

    def __getstate__(self):
        """Copies take neither the graph of the last call along nor those who listen to this module."""
        return {**self.__dict__, "events": [], "penalties": {}, "_heard_by": []}

    def _apply(self, fn, recurse=True):
        """.to(device) moves the times, but .float() leaves them in float64: time is never rounded to the state's dtype."""
        times = self.t
        super()._apply(fn, recurse)
        self.t = times.to(device=self.t.device)
        return self

    def forward(self, y0, t=None):
        """y0: the state at t[0], any shape. Returns (T, *y0.shape), or (*y0.shape) with last_only."""
        times = self.t if t is None else t
        last_only = t is None if self.last_only is None else self.last_only
        y = self._integrated(y0, times)[0]
        return y[-1] if last_only else y

    @property
    def penalty(self):
        """The weighted sum of the regularisers, a 0-d tensor; 0 without any, and in evaluation mode."""
        return sum(r.weight * self.penalties[r.name].mean() for r in self.regularisers if r.name in self.penalties)

    @property
    def _timed(self):
        """The field as a module that is called with (t, y)."""
        return timed(self.field)

    def _integrated(self, y0, times, integrands=(), lead=None, noise=NOISES[0]):
        """(y, l_1, ...) at the times, with the integrals of the integrands (see ``along``); keeps those of the regularisers.

        lead: how many dimensions of y0 number rows; noise: of which probes are drawn, once a solve.
        """
        chosen = self.regularisers if self.training else ()
        every = (*integrands, *chosen)
        self.penalties = {}
        if not every:
            return (self._solved(self._timed, y0, times),)
        if lead is None:
            lead = int(y0.dim() > 1 or bool(self.options.get("batched")))
        e = draw(y0, noise) if any(g.needs == "probe" for g in every) else None
        start = (y0, *[y0.new_zeros(y0.shape[:lead]) for _ in every])
        found = self._solved(Along(self._timed, every, lead), start, times, (e,))
        ends = [integral[-1].abs() for integral in found[1 + len(integrands) :]]  # backwards in time they are negative
        self.penalties = {r.name: end for r, end in zip(chosen, ends, strict=True)}
        return found[: 1 + len(integrands)]

    def _solved(self, field, y0, times, args=()):
        """y at the times, by ``solve`` with the options; its counts go to ``stats`` and to those who listen."""
        self._check_end()
        solution = solve(field, y0, times, args=args, **self.options)
        if solution.status is Status.CALLBACK:
            raise ValueError(
                f"{solution.message} {type(self).__name__} returns the state at its last time: let callback return nothing"
            )
        self.stats, self.events = solution.stats, solution.events
        for heard in self._heard_by:
            heard(self, solution.stats)
        return solution.y

    def listen(self, heard, listening=True):
        """Call heard(self, stats) after every solve, no more where listening is False."""
        self._heard_by = [other for other in self._heard_by if other != heard] + ([heard] if listening else [])

    def _check_end(self):
        """ValueError for options by which a solve may end early; at every call, because options may be changed."""
        name = type(self).__name__
        if not self.options.get("throw", True):
            raise ValueError(
                f"{name} returns the state at its last time, which throw=False may not reach: leave throw away and catch "
                "SolveError, whose solution is what was computed, or call pynode.solve"
            )
        ending = [event.name for _, event in as_events(self.options.get("events", ()))[0] if event.terminal]
        if ending:
            raise ValueError(
                f"{name} returns the state at its last time, but the event {ending[0]!r} is terminal and ends the solve "
                "before; call pynode.solve, whose solution says when"
            )

    def extra_repr(self):
        return ", ".join(f"{key}={value}" for key, value in self.options.items() if key != "events")


def takes_time(field) -> bool:
    """Whether a module is called with (t, y), or with y alone."""
    return len(inspect.signature(field.forward).parameters) != 1


def timed(module):
    """A module that is called with (t, y), where the given one may take y alone."""
    return module if takes_time(module) else _Autonomous(module)


class _Autonomous(torch.nn.Module):
    """field(y) called as field(t, y)."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t, y):
        return self.field(y)
