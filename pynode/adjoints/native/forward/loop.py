"""The recorded steps forwards with the derivatives of the state, in one compiled loop.

The derivative of a vector of the state, (n,), in all directions is a block, (n, D): the first n
directions are the components of y0, the others numbers of the targets. Memory.blocks has one block
in each row. Memory.lines has the same numbers, with one component in each row: block b has the
rows from b n on. Block NOW belongs to the state at the start of a step.

A family is a module with these functions. ``run`` is a record (RECORD), ``memory`` a Memory,
``tables`` those of the forward family.

- ``sizes(tables)``: a Sizes.
- ``begin(run, tables, memory)``: before the first step, when block NOW is that of y0.
- ``push_step(run, tables, memory, k)``: write the outputs inside step k (``write_inside``), then
  replace block NOW by that of the end of the step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ....backends.native.arithmetic import add, clear, copy
from ....backends.native.machine import call, row
from ....backends.native.run import record_type
from ..sweep import linearise_at

NOW = 0  # the block of the state at the start of a step


class Sizes(NamedTuple):
    """The memory that a family needs: blocks, and numbers. slopes: whether it needs df/dt and
    second derivatives. width: size of its matrix in units of n; 0 if it has none. sparse: whether
    the matrix is that of linear.py."""

    blocks: int
    numbers: int = 0
    slopes: bool = False
    width: int = 0
    sparse: bool = False


class Run(NamedTuple):
    """The numbers of a forward pass, which Python and compiled code share."""

    h0: float  # the first step that the solve tried
    # Functions of the field by address; 0 for those that the family does not need.
    f: int
    jac: int
    repair: int
    vjp_p: int
    second: int
    # What the loop changes.
    step: int = 0
    output: int = 0  # the next one
    pause: int = 0  # the loop returns to Python at this step
    nfe: int = 0
    njac: int = 0
    nlu: int = 0
    nsolve: int = 0
    nvjp: int = 0


RECORD = record_type(Run)


class Memory(NamedTuple):
    """The arrays of a forward pass. n: components; P: numbers in all targets; D: directions; T: the
    dtype."""

    point: Any  # (n,) T: where f is evaluated
    unit: Any  # (n,) T: a unit vector, otherwise zero
    pulled: Any  # (n + P + 1,) T: what vjp_p and second write
    pair: Any  # (2 n + 1,) T: the vectors of second
    blocks: Any  # (b, n D) T
    lines: Any  # (b n, D) T: the same numbers
    outputs: Any  # (m, n D) T: the blocks of the outputs
    kept: Any  # (q, 3) int64: runs of the numbers of the targets: first, last + 1, first direction
    numbers: Any  # float64
    jac: Any  # (nnz + n,) T
    rows: Any  # (nnz,) int64
    columns: Any  # (nnz,) int64
    matrix: Any  # (n, n) T
    pivots: Any  # (n,) int64; linear.SPARSE comes first if the factors are sparse
    whole: Any  # (m, m) T: a copy of a matrix of several stages, to refine its solutions
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
    fresh: Any  # (k,) int64: whether a step begins behind a jump of f
    last: Any  # (n,) T: the state at the end of the last step
    output_steps: Any  # (m,) int64: the step of each output, in rising order
    thetas: Any  # (m,) float64: its place inside the step; negative at the end of the step


def go_forward(family: Any, run: Any, tables: Any, memory: Any) -> None:
    """Carry the derivatives through the steps up to run.pause."""
    if run.step == 0:
        family.begin(run, tables, memory)
    while run.step < run.pause:
        k = run.step
        family.push_step(run, tables, memory, k)
        while has_output(run, memory, k):
            copy(row(memory.blocks, NOW), row(memory.outputs, run.output))
            run.output += 1
        run.step += 1


def has_output(run: Any, memory: Any, k: int) -> bool:
    """Whether the next output lies in step k or at its end."""
    return run.output < len(memory.output_steps) and memory.output_steps[run.output] == k


def has_inside(run: Any, memory: Any, k: int) -> bool:
    """Whether the next output lies inside step k."""
    return has_output(run, memory, k) and memory.thetas[run.output] >= 0


def add_jacobian(memory: Any, weight: float, source: int, target: int) -> None:
    """Block target += weight J times block source, for the Jacobian in memory.jac."""
    n = len(memory.point)
    for m in range(len(memory.rows)):
        value = weight * memory.jac[m]
        add(
            row(memory.lines, target * n + memory.rows[m]),
            value,
            row(memory.lines, source * n + memory.columns[m]),
        )


def add_targets(run: Any, memory: Any, t: float, y: Any, weight: float, target: int) -> None:
    """Block target += weight df/dp at (t, y)."""
    if len(memory.kept) == 0:
        return
    n = len(memory.point)
    for j in range(n):
        memory.unit[j] = 1.0
        run.nvjp += 1
        call(run.vjp_p, t, y, memory.unit, memory.inputs, memory.pulled, memory.work)
        memory.unit[j] = 0.0
        add_kept(memory, 0, weight, row(memory.lines, target * n + j))


def add_kept(memory: Any, first: int, weight: float, target: Any) -> None:
    """Row of a block += weight times the numbers of the targets, from ``first`` on in
    memory.pulled."""
    for q in range(len(memory.kept)):
        shift = memory.kept[q, 2] - memory.kept[q, 0]
        for i in range(memory.kept[q, 0], memory.kept[q, 1]):
            target[shift + i] += weight * memory.pulled[first + i]


def write_slope(run: Any, memory: Any, t: float, y: Any, source: int, target: int) -> None:
    """Block target = that of f(t, y), for block source of y."""
    linearise_at(run, memory, t, y)
    clear(row(memory.blocks, target))
    add_jacobian(memory, 1.0, source, target)
    add_targets(run, memory, t, y, 1.0, target)


def write_inside(
    run: Any, memory: Any, k: int, scale: float, dense: Any, first: int, shift: int
) -> None:
    """The outputs inside step k: start + scale sum_j stage_j sum_m dense[j, m] theta^(m+1).

    The block of stage j is first + j - shift. Those before it have no weights.
    """
    while has_inside(run, memory, k):
        theta = memory.thetas[run.output]
        target = row(memory.outputs, run.output)
        copy(row(memory.blocks, NOW), target)
        for j in range(shift, dense.shape[0]):
            weight = 0.0
            for m in range(dense.shape[1] - 1, -1, -1):
                weight = (weight + dense[j, m]) * theta
            add(target, weight * scale, row(memory.blocks, first + j - shift))
        run.output += 1
