"""What is known of the dynamics before they are learned: sums that are conserved, states that stay
positive, and terms of the equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Laws:
    """sums: the coefficients of the n states in each conserved sum, in the units of the data.
    positive: for each state whether it stays positive; () for none."""

    sums: tuple[tuple[float, ...], ...] = ()
    positive: tuple[bool, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, {} without laws."""
        plain: dict[str, Any] = {}
        if self.sums:
            plain["sums"] = [list(row) for row in self.sums]
        if self.positive:
            plain["positive"] = list(self.positive)
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Laws:
        """From the data of as_dict; other keys do not matter."""
        return cls(
            tuple(tuple(row) for row in plain.get("sums", ())), tuple(plain.get("positive", ()))
        )

    @property
    def both(self) -> bool:
        """Whether a positive state is part of a conserved sum, which needs moves (moves.py)."""
        pairs = enumerate(self.positive)
        return any(row[i] != 0 for i, positive in pairs if positive for row in self.sums)


class Known:
    """A known part f(t, y) of dy/dt, in the units of the data, for one state or rows of states.

    f: called with one state, (n,), and its time, 0-d. It sees the n observed states only. count: n.
    """

    def __init__(self, f: Callable[[Any, Tensor], Tensor], count: int) -> None:
        self.f = f
        self.count = count
        if isinstance(f, nn.Module):
            # Its parameters are constants of the run.
            f.requires_grad_(False)

    def __call__(self, t: float | Tensor, y: Tensor) -> Tensor:
        """dy/dt, (..., n), at states y, (..., N), with zeros for those that are not observed."""
        seen = y[..., : self.count]
        if seen.dim() == 1:
            rate = self.f(t, seen)
        else:
            rows = seen.reshape(-1, self.count)
            times = torch.as_tensor(t, dtype=y.dtype).expand(seen.shape[:-1]).reshape(-1)
            rate = torch.vmap(self.f)(times, rows).reshape(seen.shape)
        if rate.shape != seen.shape:
            raise ValueError(
                f"the known part returned {tuple(rate.shape)} for a state of {self.count}: return"
                " dy/dt as one tensor of all states"
            )
        missing = y.shape[-1] - self.count
        if not missing:
            return rate
        return torch.cat((rate, torch.zeros_like(y[..., self.count :])), -1)
