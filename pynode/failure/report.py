"""A page of text about a failed solve."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..core.formatting import number
from ..core.status import Status
from ..core.text_table import WIDTH
from ..core.trajectory import Attempt

SHOWN = 8  # so many of the last attempts, and of Newton's corrections, are shown


@dataclass(frozen=True)
class ErrorContribution:
    """How much one component contributes to the error of the last attempt. error: in units of its
    tolerance; part: of the squared norm."""

    component: str
    error: float
    part: float
    y: float
    slope: float


@dataclass(frozen=True)
class FailureReport:
    """Why a solve failed. str() is a page of text, as_dict() plain data.

    cause: in a few words ('stiffness', 'blow-up', 'nonfinite parameters', ...).
    finding: what was found, in sentences.
    remedy: what to try next.
    t, span: the time reached, and the first and last time of the solve.
    outputs: (number reached, number requested).
    attempts: the last attempted steps.
    shares: the components that dominate the error of the last attempt.
    newton: the norms of Newton's corrections in the last failed iteration, in units of the
        tolerances.
    row: the number of the row in a batch, None for a single system.
    """

    method: str
    status: Status
    cause: str
    finding: str
    remedy: str
    t: float
    span: tuple[float, float]
    outputs: tuple[int, int]
    attempts: tuple[Attempt, ...]
    shares: tuple[ErrorContribution, ...]
    newton: tuple[float, ...]
    row: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data: numbers, strings, lists. None stands for numbers that are not finite."""
        attempts = [
            {
                **a._asdict(),
                "failure": None if a.failure is None else a.failure.name,
                "accepted": a.accepted,
            }
            for a in self.attempts
        ]
        return plain({**asdict(self), "status": self.status.name, "attempts": attempts})

    def __str__(self) -> str:
        start, end = self.span
        if end != start:
            done = abs(self.t - start) / abs(end - start)
        else:
            done = 1.0
        if self.row is None:
            where = ""
        else:
            where = f", row {self.row}"
        lines = [
            f"{self.method}{where}: {self.status.sentence}.",
            (
                f"Reached t = {self.t:.10g}, {100 * done:.3g} % of {start:.6g} to {end:.6g};"
                f" {self.outputs[0]} of {self.outputs[1]} outputs are in the partial solution."
            ),
            "",
            f"Cause: {self.cause}",
            *_wrapped(self.finding),
            "What to do next",
            *_wrapped(self.remedy),
        ]
        if self.attempts:
            lines += [
                "The last steps tried",
                f"  {'t':>15}  {'h':>10}  {'error':>8}  outcome (error: 1 is the limit)",
            ]
            lines += [
                f"  {a.t:>15.9g}  {a.h:>10.3g}  {_ratio(a.ratio):>8}  {_outcome(a)}"
                for a in self.attempts[-SHOWN:]
            ]
        if self.shares:
            lines += ["", "Components that dominate the error of the last of them"]
            lines += [f"  {'component':<14}{'share':>6}  {'y':>11}  dy/dt"]
            lines += [
                f"  {s.component:<14}{100 * s.part:>4.0f} %  {s.y:>11.4g}  {s.slope:.4g}"
                for s in self.shares
            ]
        if self.newton:
            norms = ("..., " if len(self.newton) > SHOWN else "") + ", ".join(
                f"{norm:.2g}" for norm in self.newton[-SHOWN:]
            )
            lines += [
                "",
                "Newton's corrections in the last failed iteration, in units of the tolerances",
                f"  {norms}",
            ]
        return "\n".join(lines).rstrip()


def _wrapped(text):
    return [*textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  "), ""]


def _ratio(ratio) -> str:
    if math.isfinite(ratio):
        return number(ratio)
    return "-"


def _outcome(attempt) -> str:
    if attempt.accepted:
        return "accepted"
    if attempt.failure is None:
        return "rejected: error too large"
    return f"failed: {attempt.failure.sentence}"


def plain(value: Any) -> Any:
    """value with the types of JSON: lists for tuples, None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
