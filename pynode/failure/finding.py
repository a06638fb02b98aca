"""What a rule found."""

from __future__ import annotations

from typing import NamedTuple

from ..core.status import Status

LIMITS = {
    Status.MAX_STEPS: "max_steps",
    Status.MAX_EVALUATIONS: "max_nfe",
    Status.MAX_SECONDS: "max_seconds",
}
EVENTS = (Status.MAX_EVENTS, Status.CASCADE)


class Finding(NamedTuple):
    cause: str
    finding: str
    remedy: str


def short(y) -> str:
    """The first components of a state, (n,)."""
    values = ", ".join(f"{v:.4g}" for v in y[:4].tolist())
    return f"({values}{', ...' if len(y) > 4 else ''})"
