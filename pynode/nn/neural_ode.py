"""The neural ordinary differential equation. Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018,
eq. (2)."""

from __future__ import annotations

import torch

from .base import DefaultTimes, SolveModule, last
from .integrands import NOISES, AugmentedField, draw
from .regularisers import as_regularisers


class NeuralODE(DefaultTimes, SolveModule):
    """y(t) of dy/dt = field(t, y), y(t_0) = input.

    field: nn.Module with forward(t, y), or forward(y) for an autonomous field; y has the shape of
    the input. t: default times, at least two, kept as a buffer (float64); without ``t`` in the call
    these are used.
    last_only: return the state at the last time alone, shape of the input, so that the module fits
        in nn.Sequential; None (default): where the call gives no t.
    regularisers: one or several of pynode.nn.regularisers, integrated beside y in training mode.
        Then the first dimension of y numbers rows that do not know one another (y of one dimension
        is a single row). ``penalty`` is the sum of their means over the rows in the last call,
        times their weights, to be added to the loss; ``penalties`` has each by name, a value a row.
    options: of ``solve`` (method, rtol, atol, adjoint, max_steps, ...).

    With t = (0, N), method="euler" and step_size=1.0 it is a residual network of N blocks y +
    field(t, y) (ibid., sec. 1), with the weights of the field in each block where it does not
    depend on t (examples/digits.py).

    ``stats`` holds the counts of the last solve, ``events`` what occurred where options has events.
    Raises SolveError where a solve fails, ValueError for options by which it may end before its
    last time (throw=False, terminal events), because what a call returns is the state at that time.
    """

    def __init__(
        self,
        field,
        t=(0.0, 1.0),
        *,
        method="auto",
        rtol=1e-6,
        atol=1e-9,
        last_only=None,
        regularisers=(),
        **options,
    ):
        super().__init__(field, {"method": method, "rtol": rtol, "atol": atol, **options})
        self.keep_times(t, last_only)
        self.regularisers = as_regularisers(regularisers)
        self.penalties = {}

    def __getstate__(self):
        """Copies take no penalties along, as they are those of the last call, with its graph."""
        return {**super().__getstate__(), "penalties": {}}

    def forward(self, y0, t=None):
        """y0: the state at t[0], a tensor of any shape, or a tuple or dict of tensors, as the field
        takes and gives it. Returns (T, *y0.shape), or (*y0.shape) with last_only."""
        times, last_only = self.choose_times(t)
        y = self._integrated(y0, times)[0]
        if last_only:
            return last(y)
        return y

    @property
    def penalty(self):
        """The weighted sum of the regularisers, a 0-d tensor; 0 without any, and in evaluation
        mode."""
        return sum(
            r.weight * self.penalties[r.name].mean()
            for r in self.regularisers
            if r.name in self.penalties
        )

    def _integrated(self, y0, times, integrands=(), lead=None, noise=NOISES[0]):
        """(y, l_1, ...) at the times, with the integrals of the integrands (see ``along``); keeps
        those of the regularisers.

        lead: how many dimensions of y0 number rows; noise: of which probes are drawn, once a solve.
        """
        if self.training:
            chosen = self.regularisers
        else:
            chosen = ()
        every = (*integrands, *chosen)
        self.penalties = {}
        if not every:
            return (self._solved(self._timed, y0, times),)
        alone = [
            name
            for name in ("jac", "mass", "events", "domain")
            if self.options.get(name) is not None
        ]
        if alone:
            raise ValueError(
                f"{', '.join(alone)} would be asked about y alone, and here the integrals of the"
                " trace or of regularisers are part of the state: leave"
                f" {'it' if len(alone) == 1 else 'them'} away, or call pynode.solve"
            )
        if not isinstance(y0, torch.Tensor):
            raise TypeError(
                f"regularisers are for a state that is one tensor, not {type(y0).__name__}: join"
                " its parts in one"
            )
        if lead is None:
            lead = int(y0.dim() > 1 or bool(self.options.get("batched")))
        if any(g.needs == "probe" for g in every):
            e = draw(y0, noise)
        else:
            e = None
        start = (y0, *[y0.new_zeros(y0.shape[:lead]) for _ in every])
        found = self._solved(AugmentedField(self._timed, every, lead), start, times, (e,))
        # Backwards in time they are negative.
        ends = [integral[-1].abs() for integral in found[1 + len(integrands) :]]
        self.penalties = {r.name: end for r, end in zip(chosen, ends, strict=True)}
        return found[: 1 + len(integrands)]
