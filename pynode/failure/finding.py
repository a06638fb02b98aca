"""The result of a rule."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..core.status import Status

LIMITS = {
    Status.MAX_STEPS: "max_steps",
    Status.MAX_EVALUATIONS: "max_nfe",
    Status.MAX_SECONDS: "max_seconds",
}
EVENTS = (Status.MAX_EVENTS, Status.CASCADE)


class Finding(NamedTuple):
    """The cause in a few words, what was found, in sentences, and the remedy."""

    cause: str
    finding: str
    remedy: str


def short(y: torch.Tensor) -> str:
    """The first components of a state, (n,), as text."""
    values = ", ".join(f"{v:.4g}" for v in y[:4].tolist())
    return f"({values}{', ...' if len(y) > 4 else ''})"
