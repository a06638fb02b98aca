"""Compositions of a gas: what users write, and amounts of the species."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def fractions(composition: Any, species: Sequence[str], what: str) -> Tensor:
    """(..., K) fractions that sum to one.

    composition: "H2:2, O2:1", a mapping from names to amounts, or amounts (..., K). what: the
    name of the composition in messages.
    """
    if isinstance(composition, str):
        composition = _parsed(composition, what)
    if isinstance(composition, Mapping):
        unknown = [name for name in composition if name not in species]
        if unknown:
            raise ValueError(
                f"{what} names {', '.join(map(str, unknown))}, not among the species"
                f" {', '.join(species)}"
            )
        given = (composition.get(name, 0.0) for name in species)
        values = [torch.as_tensor(amount, dtype=torch.float64) for amount in given]
        amounts = torch.stack(torch.broadcast_tensors(*values), -1)
    else:
        amounts = torch.as_tensor(composition, dtype=torch.float64)
        if amounts.dim() == 0 or amounts.shape[-1] != len(species):
            raise ValueError(
                f"{what} must have one number for each of the {len(species)} species in its last"
                f" dimension, not the shape {tuple(amounts.shape)}"
            )
    totals = amounts.sum(-1, keepdim=True)
    if not bool((totals > 0).all()) or not bool(totals.isfinite().all()):
        raise ValueError(f"the amounts of {what} must have a positive, finite sum")
    return amounts / totals


def _parsed(text: str, what: str) -> dict[str, float]:
    """The amounts by name of a text such as "H2:2, O2:1"."""
    found: dict[str, float] = {}
    for part in text.replace(",", " ").split():
        name, colon, number = part.rpartition(":")
        try:
            found[name] = float(number)
        except ValueError:
            colon = ""
        if not (name and colon):
            raise ValueError(
                f"{what} is a text such as 'H2:2, O2:1, N2:3.76'; {part!r} is no name with a number"
            )
    return found
