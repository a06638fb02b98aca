"""The numbers and the memory of one solve, which Python and compiled code share."""

from __future__ import annotations

from typing import Any, NamedTuple, get_type_hints

import numpy as np

from ...core.row_statuses import RUNNING, STATUSES
from ...core.status import Status

# Compiled code knows a status by its position in STATUSES.
NO_FAILURE = -1  # the failure of an attempt that was completed
SUCCESS = STATUSES.index(Status.SUCCESS)
NONFINITE = STATUSES.index(Status.NONFINITE)
DOMAIN = STATUSES.index(Status.DOMAIN)
DIVERGED = STATUSES.index(Status.DIVERGED)
NEWTON = STATUSES.index(Status.NEWTON)
MIN_STEP = STATUSES.index(Status.MIN_STEP)
MAX_STEPS = STATUSES.index(Status.MAX_STEPS)
MAX_EVALUATIONS = STATUSES.index(Status.MAX_EVALUATIONS)
STEP_TOO_SMALL = STATUSES.index(Status.STEP_TOO_SMALL)

# Questions to the hook, or to Python.
ALLOWED = 0  # may the step end at y1?
ACCEPTED = 1  # the step is accepted: does the solve end here?

# What the loop does next.
NEXT = 0  # a new attempt
TRIED = 1  # judge the end of an attempt
FOUND = 2  # write an accepted step

# The accepted steps at which the hook looks.
NO_STEP = 0
EVERY_STEP = 1
POSSIBLE_EVENTS = 2  # those in which an event could be found (conditions.py)

HISTORY = 32  # attempted steps kept for the report of a failure


def record_type(numbers: Any) -> np.dtype:
    """The dtype of a record with the fields of a NamedTuple: eight bytes for each float or int."""
    kinds = {float: "f8", int: "i8"}
    return np.dtype([(name, kinds[kind]) for name, kind in get_type_hints(numbers).items()])


class Run(NamedTuple):
    """The numbers of one solve: its settings, its present point and its counts.

    Compiled code reads and writes them as a record of eight bytes a field. Flags are 0 or 1.
    """

    # The present point, and the step to try.
    t: float
    h: float
    # Settings.
    end: float
    direction: float
    rtol: float
    min_step: float
    max_step: float
    max_nfe: float
    stop_tolerance: float
    tiny: float  # the smallest normal number of the dtype: a component of this atol has none
    eps: float  # of the dtype
    zero_atol: int  # whether a component has no atol
    # The controller.
    beta1: float
    beta2: float
    beta3: float
    safety: float
    smallest: float
    largest: float
    order: int  # of the error estimate, plus one
    adaptive: int
    fixed: int  # whether all steps have one size
    one_step: int  # whether the method needs nothing of the steps before
    max_steps: int
    record: int  # whether to record the accepted steps
    dense: int  # whether to record what their polynomials need
    slopes: int  # whether to write dy/dt at the outputs, too
    bounded: int  # whether some components must not be negative
    # Functions of the field by address; 0 for those that the method does not need.
    f: int
    jac: int
    repair: int
    # A Python function by address, as hooks.py describes; 0 for none. limited: whether it says at
    # which states a step may end. watched: at which accepted steps it looks, NO_STEP or one of the
    # next two.
    hook: int
    limited: int
    watched: int
    # What the loop changes.
    started: int = 0
    first_step: float = 0.0  # 0: chosen by the loop
    h0: float = 0.0  # the size of the first step
    t1: float = 0.0  # the end of the attempt; an event can truncate it
    last_end: float = 0.0  # the end of the last accepted step, before an event truncated it
    phase: int = NEXT
    proposed: float = 0.0  # the step before it was fitted to the next stop
    hits_stop: int = 0  # whether the attempt ends at a stop
    question: int = 0  # to the hook, or to Python
    asking: int = 0  # whether Python has to answer it before the loop goes on
    verdict: int = RUNNING  # the answer: the status that ends the solve or refuses the step
    least: float = 0.0
    r1: float = 1.0  # scaled errors of the last two accepted steps
    r2: float = 1.0
    next_r1: float = 1.0  # those after the attempt, if it is accepted
    next_r2: float = 1.0
    ratio: float = 0.0  # of the last attempt, as in methods/base.Step
    factor: float = 1.0
    failure: int = NO_FAILURE
    accepted_last: int = 0
    complete: int = 0  # whether the memory has all stages of the dense output
    known: int = 0  # whether f (explicit methods) or the Jacobian at the start of the step is known
    status: int = RUNNING
    position: int = 1  # of the next output
    stop: int = 0  # position of the next stop
    pause: int = 0  # the number of attempts after which the loop returns to Python
    attempts: int = 0
    accepted: int = 0
    first: int = 0  # the number of the first step in the record
    rejected: int = 0
    nfe: int = 0
    njac: int = 0
    nlu: int = 0
    nsolve: int = 0
    newton_failures: int = 0


RECORD = record_type(Run)


class Memory(NamedTuple):
    """The arrays of one solve. n: components; T: the dtype of the state.

    A family of methods uses stages, vectors, numbers and marks as it likes.
    """

    y: Any  # (n,) T: the present state
    y1: Any  # (n,) T: the end of an attempt
    point: Any  # (n,) T: where f is evaluated
    error: Any  # (n,) T
    atol: Any  # (n,) float64
    lowest: Any  # (n,) float64: bounds after a step from a negative state (core/stop_conditions.py)
    floor: Any  # (n,) float64: bounds after a step from another state
    first_slope: Any  # (n,) T: f at the start of the solve
    stages: Any  # (s, n) T: what a step leaves for its dense output and its gradient
    vectors: Any  # (v, n) T
    numbers: Any  # float64
    marks: Any  # int64
    jac: Any  # (nnz + n,) T or (nnz + 2 n,): the nonzeros of df/dy, df/dt and f (steps.linearise)
    rows: Any  # (nnz,) int64
    columns: Any  # (nnz,) int64
    matrix: Any  # (n, n) T
    pivots: Any  # (n,) int64; linear.SPARSE comes first if the factors are sparse
    plan_rows: Any  # (n + 1, 4) int64: the elimination.Plan; no rows if elimination is dense
    plan_entries: Any  # (nnz, 2) int64
    plan_columns: Any  # (f,) int64
    factors: Any  # (f,) T: the sparse factors (sparse.py)
    corner: Any  # (m, m) T: their dense corner
    corner_pivots: Any  # (m,) int64
    ordered: Any  # (2, n) T
    mass_starts: Any  # (3 n + 1,) int64: the mass matrix (mass.py); no numbers without one
    mass_columns: Any  # (e,) int64
    mass_values: Any  # (e,) T
    mass_product: Any  # (n,) T
    lift: Any  # (1,) T; no number without algebraic equations
    blocks: Any  # (q, 2 n, 2 n) T: further matrices
    block_pivots: Any  # (q, 2 n) int64
    inputs: Any  # int64 addresses of the parameters
    work: Any  # T: of the field's functions
    times: Any  # (T,) float64: the outputs; the first is the start
    outputs: Any  # (T, n) T
    output_steps: (
        Any  # (T,) int64: the recorded step in which an output lies; (0,) without a record
    )
    thetas: Any  # (T,) float64: its place in the step; negative at the end; (0,) without a record
    slopes: Any  # (T, n) T, or (0, n) without slopes
    stops: Any  # float64: times at which steps must end; the last one is the end
    restarts: Any  # float64: where the solve goes on after each stop: there, or behind a jump of f
    samples: Any  # float64: the fractions of a step at which conditions are evaluated
    conditions: Any  # (E, 2) int64: addresses of conditions, and how many values they return
    condition_inputs: Any  # (E, P) int64: addresses of the tensors that they read
    condition_values: Any  # (E, K) T
    largest: Any  # (E, K) float64: their largest values so far
    sides: Any  # (E, K) float64: their sides of zero, as conditions.py describes
    history: Any  # (HISTORY, 4) float64: t, h, ratio and failure of the last attempts
    tape_t: Any  # (capacity,) float64: starts of the recorded steps
    tape_h: Any  # (capacity,) float64: their sizes
    tape_y: Any  # (capacity, n) T: their first states
    tape_stages: Any  # (capacity, s, n) T
    tape_numbers: Any  # (capacity, k) float64: numbers of each step that the family records
