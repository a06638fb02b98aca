"""What a thread of the kernel does before and after the solve of a row: plain functions, which
become device functions (functions.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arithmetic import copy
from ..machine import row

# Numbers of each row that the kernel writes: fields of Run.
REALS = ("t", "h0", "last_end")
COUNTS = (
    "status",
    "position",
    "attempts",
    "accepted",
    "rejected",
    "nfe",
    "njac",
    "nlu",
    "nsolve",
    "newton_failures",
)


class Batch(NamedTuple):
    """The arrays of all rows. B: rows; T: outputs, the start included; N: recorded steps of all
    rows. An array that all rows share has 1 in the place of B."""

    starts: Any  # (B, n) T
    atol: Any  # (1 or B, n) float64
    lowest: Any  # (1 or B, n) float64, see run.Memory
    floor: Any  # (1 or B, n) float64
    begins: Any  # (B,) float64: the time at which each row begins
    ends: Any  # (B,) float64
    tried: Any  # (B,) int64: the attempts before
    times: Any  # (1 or B, T) float64
    lengths: Any  # (1 or B,) int64: the number of times of each row
    stops: Any  # (1 or B, S) float64
    restarts: Any  # (1 or B, S) float64
    stop_counts: Any  # (1 or B,) int64
    outputs: Any  # (T, B, n) T
    slopes: Any  # (T, B, n) T; (1, 1, n) if they are not wanted
    output_steps: Any  # (B, T) int64; (1, 1) without a record
    thetas: Any  # (B, T) float64; (1, 1) without a record
    offsets: Any  # (B,) int64: where the record of each row begins
    tape_t: Any  # (N + 1,) float64
    tape_h: Any  # (N + 1,) float64
    tape_y: Any  # (N + 1, n) T
    reals: Any  # (len(REALS), B) float64
    counts: Any  # (len(COUNTS), B) int64
    last: Any  # (B, n) T: the last states


def own(values: Any, i: int) -> int:
    """The place of row i in an array whose rows can be one for all."""
    if len(values) == 1:
        return 0
    return i


def begin(batch: Batch, run: Any, y: np.ndarray, atol: np.ndarray, i: int) -> None:
    """Make run, which has the settings of all rows, and y the start of row i."""
    run.t = batch.begins[i]
    run.end = batch.ends[i]
    run.direction = 1.0
    if run.end < run.t:
        run.direction = -1.0
    run.attempts = batch.tried[i]
    copy(row(batch.starts, i), y)
    copy(row(batch.atol, own(batch.atol, i)), atol)


def finish(batch: Batch, run: Any, y: np.ndarray, i: int) -> None:
    """Write what row i has become. The numbers are in the order of REALS and COUNTS."""
    batch.reals[0, i] = run.t
    batch.reals[1, i] = run.h0
    batch.reals[2, i] = run.last_end
    batch.counts[0, i] = run.status
    batch.counts[1, i] = run.position
    batch.counts[2, i] = run.attempts
    batch.counts[3, i] = run.accepted
    batch.counts[4, i] = run.rejected
    batch.counts[5, i] = run.nfe
    batch.counts[6, i] = run.njac
    batch.counts[7, i] = run.nlu
    batch.counts[8, i] = run.nsolve
    batch.counts[9, i] = run.newton_failures
    copy(y, row(batch.last, i))


def never(family: Any, run: Any, tables: Any, memory: Any) -> bool:
    """In place of conditions.may_fire: the kernel has no events."""
    return False
