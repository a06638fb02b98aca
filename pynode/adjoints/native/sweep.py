"""The recorded steps backwards, in one compiled loop.

A family is a module with these functions. ``run`` is a record (RECORD), ``memory`` a Memory,
``tables`` those of the forward family.

- ``sizes(tables)``: a Sizes.
- ``pull_step(run, tables, memory, k)``: replace memory.ybar, the cotangent of the end of step k
  without its outputs, by the cotangent of its start, and add up memory.grads. It calls
  ``end_outputs`` first, and ``inside_outputs`` where it has the cotangents of its stages.
- ``finish(run, tables, memory)``: what is left at the start of the first step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...backends.native.arithmetic import clear, finite
from ...backends.native.linear import factorise_system
from ...backends.native.machine import call, row
from ...backends.native.run import record_type

STAGES = 8  # rows of Memory.kept


class Sizes(NamedTuple):
    """The memory that a family needs: rows of Memory.bars and of vectors, and numbers.

    implicit: whether it needs a Jacobian and a matrix. slopes: if not 0, it also needs df/dt and
    second derivatives: the sum over so many sets of vectors, or one for each component if these are
    fewer. width: size of the matrix in units of n. sparse: whether its matrix is that of
    factorise_at. kept: whether every pull_targets follows a Jacobian at the same point. staged:
    whether most of the work are calls of pull.
    """

    bars: int
    vectors: int = 0
    numbers: int = 0
    implicit: bool = False
    slopes: int = 0
    width: int = 1
    sparse: bool = False
    kept: bool = False
    staged: bool = False


class Run(NamedTuple):
    """The numbers of a backward pass, which Python and compiled code share."""

    h0: float  # the first step that the solve tried
    # Functions of the field by address; 0 for those that the family does not need. pullback, vjp_p
    # and second add to the cotangents of the targets.
    f: int
    pullback: int
    jac: int
    repair: int
    vjp_p: int
    second: int
    # In place of pullback, if these pay: one leaves what the targets need in memory.kept, and the
    # other adds it to the cotangents of the targets.
    stage: int
    gather: int
    # What the loop changes.
    step: int  # the next one is the step before this number
    output: int  # the next one is the output before this number
    pause: int = 0  # the loop returns to Python at this step
    opens: int = 1  # whether step 0 is the first one of the solve
    nfe: int = 0
    njac: int = 0
    nlu: int = 0
    nsolve: int = 0
    nvjp: int = 0
    slot: int = 0  # the next row of memory.kept
    first: int = 0  # the number of the first step in the record


RECORD = record_type(Run)


class Memory(NamedTuple):
    """The arrays of a backward pass. n: components; P: numbers in all targets; T: the dtype."""

    ybar: Any  # (n,) T: the cotangent of the state
    start: Any  # (n,) T: the cotangent of the start of a step
    point: Any  # (n,) T: where f is evaluated
    pulled: Any  # (n + P + 1,) T: what pullback and second write; they add to the P numbers
    grads: Any  # (P,) T: these numbers, the cotangents of the targets
    staged: Any  # (n + 1,) T: what stage writes
    kept: Any  # (STAGES, w) T: what stage leaves
    pairs: Any  # (min(slopes, n), 2 n + 1) T: the sets of vectors of second
    bars: Any  # (s, n) T: cotangents of stages
    vectors: Any  # (v, n) T
    numbers: Any  # float64
    jac: Any  # (nnz + n,) T, or (nnz + 2 n,)
    rows: Any  # (nnz,) int64
    columns: Any  # (nnz,) int64
    matrix: Any  # (n, n) T
    pivots: Any  # (n,) int64; linear.SPARSE comes first if the factors are sparse
    whole: Any  # (m, m) T: a copy of a matrix of several stages, to refine its solutions
    right: Any  # (2, m) T: a right-hand side of it, and what a solution leaves of this
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
    inputs: Any  # int64 addresses of the parameters
    work: Any  # T: of the field's functions
    starts: Any  # (k,) float64: the recorded steps
    sizes: Any  # (k,) float64
    states: Any  # (k, n) T
    stages: Any  # (k, s, n) T
    tape_numbers: Any  # (k, q) float64
    last: Any  # (n,) T: the state at the end of the last step
    output_steps: Any  # (m,) int64: the step of each output, in rising order
    thetas: Any  # (m,) float64: its place inside the step; negative at the end of the step
    cotangents: Any  # (m, n) T


def go_back(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Pull ybar and grads back through the steps, the last one first."""
    while run.step > run.pause:
        run.step -= 1
        family.pull_step(run, tables, memory, run.step)
    if run.step == 0 and run.opens:
        family.finish(run, tables, memory)
        gather_rest(run, memory)


def end_outputs(run: Any, memory: Any, k: int) -> None:
    """Add the cotangents of the outputs at the end of step k to ybar."""
    while has_output(run, memory, k) and memory.thetas[run.output - 1] < 0:
        run.output -= 1
        for i in range(len(memory.ybar)):
            memory.ybar[i] += memory.cotangents[run.output, i]


def has_output(run: Any, memory: Any, k: int) -> bool:
    """Whether the next output lies in step k."""
    return run.output > 0 and memory.output_steps[run.output - 1] == run.first + k


def inside_outputs(run: Any, memory: Any, k: int, scale: float, dense: Any) -> None:
    """Add the cotangents of the outputs inside step k to memory.start and to memory.bars.

    The outputs are start + scale sum_j stage_j sum_m dense[j, m] theta^(m+1).
    """
    while has_output(run, memory, k):
        run.output -= 1
        theta = memory.thetas[run.output]
        for i in range(len(memory.start)):
            memory.start[i] += memory.cotangents[run.output, i]
        for j in range(dense.shape[0]):
            weight = 0.0
            for m in range(dense.shape[1] - 1, -1, -1):
                weight = (weight + dense[j, m]) * theta
            weight *= scale
            if weight != 0.0:
                for i in range(len(memory.start)):
                    memory.bars[j, i] += weight * memory.cotangents[run.output, i]


def pull(run: Any, memory: Any, t: float, y: Any, cotangent: Any) -> None:
    """memory.pulled = cotangent^T (df/dy, df/dp, df/dt) at (t, y), but the part of the targets is
    added to memory.grads. Adds the part of the state to memory.start, too."""
    run.nvjp += 1
    if run.stage:
        pull_stage(run, memory, t, y, cotangent)
        for i in range(len(memory.start)):
            memory.pulled[i] = memory.staged[i]
    else:
        call(run.pullback, t, y, cotangent, memory.inputs, memory.pulled, memory.work)
    collect(memory)


def pull_stage(run: Any, memory: Any, t: float, y: Any, cotangent: Any) -> None:
    """memory.staged = cotangent^T (df/dy, df/dt) at (t, y). When memory.kept is full, add the part
    of the targets to memory.grads."""
    kept = row(memory.kept, run.slot)
    call(run.stage, t, y, cotangent, memory.inputs, memory.staged, kept)
    run.slot += 1
    if run.slot == len(memory.kept):
        run.slot = 0
        first = row(memory.kept, 0)
        call(run.gather, t, y, first, memory.inputs, memory.grads, memory.work)


def gather_rest(run: Any, memory: Any) -> None:
    """Add what is left in memory.kept. Cotangents of zero fill it up."""
    clear(memory.point)
    while run.slot > 0:
        pull_stage(run, memory, memory.starts[0], row(memory.states, 0), memory.point)


def collect(memory: Any) -> None:
    """Add the part of the state in memory.pulled to memory.start."""
    for i in range(len(memory.start)):
        memory.start[i] += memory.pulled[i]


def pull_targets(run: Any, memory: Any, t: float, y: Any, cotangent: Any) -> None:
    """Add cotangent^T df/dp at (t, y) to memory.grads. With Sizes.kept, it reads from memory.work
    what the Jacobian at (t, y) has left there."""
    if len(memory.grads) == 0:
        return
    run.nvjp += 1
    call(run.vjp_p, t, y, cotangent, memory.inputs, memory.grads, memory.work)


def linearise_at(run: Any, memory: Any, t: float, y: Any) -> None:
    """memory.jac = df/dy at (t, y)."""
    run.njac += 1
    call(run.jac, t, y, y, memory.inputs, memory.jac, memory.work)
    if not finite(memory.jac, len(memory.rows) + len(memory.point)):
        call(run.repair, t, y, y, memory.inputs, memory.jac, memory.work)


def factorise_at(run: Any, memory: Any, t: float, y: Any, c: float) -> None:
    """The factors of M - c J at (t, y). The solve has found them regular."""
    linearise_at(run, memory, t, y)
    factorise_system(memory, c)
    run.nlu += 1
