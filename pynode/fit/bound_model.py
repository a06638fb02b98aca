"""What an estimation asks of a model: named numbers, of which some are free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.memory import raise_if_exhausted
from ..core.state_names import names_of_field


class BoundModel(nn.Module):
    """A model with k free parameters and c conditions, for rows of a batch.

    by_row: whether the model takes rows itself. Otherwise torch.vmap gives it one row after the
    other: t 0-d, y (n,), free (k,), given (c,).
    """

    by_row = False

    @property
    def shares_parameters(self) -> bool:
        """Whether all rows of a call must have the same free parameters."""
        return False

    def rate(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """dy/dt, (n,), of one row, or of all rows where ``by_row``."""
        raise NotImplementedError

    def measure(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """The measured quantities, (m,), in the same form."""
        raise NotImplementedError

    def forward(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """dy/dt of rows. t: (rows, 1), y (rows, n), free (rows, k), given (rows, c)."""
        if self.by_row:
            return self.rate(t, y, free, given)
        return torch.vmap(self.rate)(t[..., 0], y, free, given)

    def observe(self, t: Tensor, y: Tensor, free: Tensor, given: Tensor) -> Tensor:
        """The measured quantities of rows, (rows, m), from the same."""
        if self.by_row:
            return self.measure(t, y, free, given)
        return torch.vmap(self.measure)(t[..., 0], y, free, given)


class NamedModel:
    """A model with P named numbers, of which an estimation frees some.

    names, values: (P,) of all numbers, float64; NaN where the model has no value. states: names of
    the n components of y, or None if the model does not name them. observables: names of the
    quantities that ``measure`` returns, or None for the states themselves. proposed: names of the
    numbers that are estimated where nobody says which. default_start: (n,) the initial state that
    the model has, or None. has_initial: whether ``initial`` makes initial states. networks: the
    network of each number that is a weight.
    """

    names: tuple[str, ...]
    values: Tensor
    states: tuple[str, ...] | None = None
    observables: tuple[str, ...] | None = None
    events: Any = ()
    default_start: Tensor | None = None
    has_initial = False
    networks: Mapping[str, str] = {}

    @property
    def proposed(self) -> tuple[str, ...]:
        return self.names

    def bind(
        self, free: Sequence[str], conditions: Sequence[str], columns: Sequence[str], sample: Tensor
    ) -> BoundModel:
        """The model whose numbers ``free`` are estimated and which is given ``conditions``.

        columns: the measured quantities. sample: a state, (n,). Raises ValueError where the model
        cannot take them.
        """
        raise NotImplementedError

    def trained(self, values: Mapping[str, float]) -> Any:
        """A copy of the user's model with these numbers. Raises TypeError where a model keeps no
        numbers itself."""
        raise TypeError(
            "this model keeps no numbers of its own: call it with the estimated values, which the"
            " result has by name"
        )

    def initial(self, free: Tensor, given: Tensor) -> Tensor:
        """y0, (rows, n), that the model itself says."""
        raise NotImplementedError

    def jumps(self, free: Tensor, given: Tensor) -> Tensor | None:
        """Times at which the right-hand side jumps, (rows, j), or None."""
        return None


def state_names(model: Any) -> tuple[str, ...] | None:
    """The names of the states that a field has as ``state_names``, ``columns`` or ``species``, or
    None."""
    names = names_of_field(model)
    if names is None:
        names = getattr(model, "columns", None) or getattr(model, "species", None)
    if names is None:
        return None
    return tuple(names)


def default_start(model: Any) -> Tensor | None:
    """The initial state that a field has as ``y0``, (n,), or None."""
    start = getattr(model, "y0", None)
    if start is None:
        return None
    return torch.as_tensor(start).detach().double().reshape(-1)


def with_rows(bound: BoundModel, sample: Tensor, free: int, conditions: int) -> BoundModel:
    """The bound model, with by_row set if its code takes rows of a batch alone.

    sample: a state, (n,). free, conditions: their numbers. Raises ValueError for a model that
    cannot be called, or returns something else than dy/dt.
    """
    t = sample.new_zeros(())
    try:
        found = bound.rate(t, sample, sample.new_ones(free), sample.new_ones(conditions))
    except (IndexError, RuntimeError, ValueError) as error:
        raise_if_exhausted(error)
        bound.by_row = True
        try:
            found = bound(
                sample.new_zeros(1, 1),
                sample[None],
                sample.new_ones(1, free),
                sample.new_ones(1, conditions),
            )[0]
        except (IndexError, RuntimeError, ValueError) as second:
            raise_if_exhausted(second)
            raise ValueError(
                f"the model cannot be called with a state of {len(sample)} components and"
                f" {conditions} conditions: {error}"
            ) from error
    if found.shape != sample.shape:
        raise ValueError(
            f"the model returned a tensor of shape {tuple(found.shape)} for a state of"
            f" {len(sample)} components: check which columns are states"
        )
    return bound
