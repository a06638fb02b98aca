"""The neural ordinary differential equation. Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018,
eq. (2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from ..core.protocols import Times
from ..methods.base import Method
from .base import DefaultTimes, SolveModule, last
from .integrands import NOISES, AugmentedField, draw
from .regularisers import Regulariser, as_regularisers

# A state: a tensor, or a tuple or dict of tensors.
State = TypeVar("State", bound="torch.Tensor | tuple | dict")


class NeuralODE(DefaultTimes, SolveModule):
    """y(t) of dy/dt = field(t, y), y(t_0) = input.

    field: nn.Module with forward(t, y), or forward(y) for an autonomous field. y has the shape of
        the input.
    t: default times, at least two, a float64 buffer. A call without ``t`` uses them.
    last_only: True returns only the state at the last time, in the shape of the input, so that the
        module fits into nn.Sequential. None, the default, does so if the call gives no t.
    regularisers: one or several of pynode.nn.regularisers. They are integrated together with y in
        training mode. The first dimension of y then numbers independent rows; a y of one dimension
        is a single row. ``penalty`` is for the loss: the sum of their weights times their means
        over the rows in the last call. ``penalties`` holds each by name, one value a row.
    options: of ``solve`` (method, rtol, atol, adjoint, max_steps, ...). backend='native' makes the
        solves and their gradients compiled code (docs/native.md), here and in the other models over
        ``solve``.

    With t = (0, N), method="euler" and step_size=1.0 it is a residual network of N blocks y +
    field(t, y) (ibid., sec. 1). If the field does not depend on t, all blocks share its weights
    (examples/digits.py).

    ``stats`` holds the counts of the last solve. ``events`` holds what occurred, if the options
    have events. Raises SolveError if a solve fails. Raises ValueError for options that may end a
    solve before its last time (throw=False, terminal events), because a call returns the state at
    that time.
    """

    def __init__(
        self,
        field: torch.nn.Module,
        t: Times = (0.0, 1.0),
        *,
        method: str | Method = "auto",
        rtol: float = 1e-6,
        atol: float | torch.Tensor = 1e-9,
        last_only: bool | None = None,
        regularisers: Regulariser | Sequence[Regulariser] = (),
        **options: Any,
    ) -> None:
        super().__init__(field, {"method": method, "rtol": rtol, "atol": atol, **options})
        self.keep_times(t, last_only)
        self.regularisers = as_regularisers(regularisers)
        self.penalties: dict[str, torch.Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no penalties: they belong to the last call and its graph."""
        return {**super().__getstate__(), "penalties": {}}

    def forward(self, y0: State, t: Times | None = None) -> State:
        """The states at the times.

        y0: the state at t[0]: a tensor of any shape, or a tuple or dict of tensors, as the field
            takes and returns it.

        Returns (T, *y0.shape), or (*y0.shape) with last_only.
        """
        times, last_only = self.choose_times(t)
        y = self._integrated(y0, times)[0]
        if last_only:
            return last(y)
        return y

    @property
    def penalty(self) -> torch.Tensor | float:
        """The weighted sum of the regularisers, a 0-d tensor. It is 0 without regularisers and in
        evaluation mode."""
        return sum(
            r.weight * self.penalties[r.name].mean()
            for r in self.regularisers
            if r.name in self.penalties
        )

    def _integrated(self, y0, times, integrands=(), lead=None, noise=NOISES[0]):
        """(y, l_1, ...) at the times, with the integrals of the integrands
        (integrands.AugmentedField). Stores the integrals of the regularisers.

        lead: how many dimensions of y0 number rows.
        noise: the distribution of the probes, which are drawn once a solve.
        """
        if self.training:
            chosen = self.regularisers
        else:
            chosen = ()
        every = (*integrands, *chosen)
        self.penalties = {}
        if not every:
            return (self._solved(self._timed, y0, times),)
        asked = [
            name
            for name in ("jac", "mass", "events", "domain")
            if self.options.get(name) is not None
        ]
        if asked:
            raise ValueError(
                f"{', '.join(asked)} would get y only, but here the integrals of the trace or of"
                " regularisers are part of the state: remove"
                f" {'it' if len(asked) == 1 else 'them'}, or call pynode.solve"
            )
        if not isinstance(y0, torch.Tensor):
            raise TypeError(
                f"regularisers need a state that is one tensor, not {type(y0).__name__}: join its"
                " parts into one"
            )
        if lead is None:
            lead = int(y0.dim() > 1 or bool(self.options.get("batched")))
        if any(g.needs == "probe" for g in every):
            e = draw(y0, noise)
        else:
            e = None
        start = (y0, *[y0.new_zeros(y0.shape[:lead]) for _ in every])
        field = self._wrapped(AugmentedField, self._timed, lead, *every)
        outputs = self._solved(field, start, times, (e,))
        # Backwards in time they are negative.
        integrals = [integral[-1].abs() for integral in outputs[1 + len(integrands) :]]
        self.penalties = {r.name: integral for r, integral in zip(chosen, integrals, strict=True)}
        return outputs[: 1 + len(integrands)]
