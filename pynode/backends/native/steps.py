"""What the attempts of all families share: evaluations, Jacobians, and the judgement of an error.

A family is a module with these functions. ``run`` is a record (run.RECORD), ``memory`` a Memory,
``tables`` the NamedTuple of arrays that its ``tables_of(method, mass)`` makes. mass: the Mass of
the field, or None.

- ``sizes(tables)``: a Sizes.
- ``begin(run, tables, memory)``: before the first step, when memory.stages[0] is f at the start.
- ``cost(run, tables)``: the number of evaluations of f in an attempt, its dense output included;
  the least number if it depends on an iteration.
- ``attempt(run, tables, memory)``: try a step of run.h from run.t, as Method.step. Writes
  memory.y1 and memory.stages, and calls ``judge``, ``fail`` or their like.
- ``complete(run, tables, memory)``: the stages that only the dense output needs.
- ``interpolate(run, tables, memory, theta, target)``: the state at a fraction of the step.
- ``interpolate_slope(run, tables, memory, theta, target)``: dy/dt there.
- ``accept(run, tables, memory)``: what is to do before memory.y1 becomes memory.y, after outputs
  and records.

Python also calls ``polynomials(tables, sizes, states, stages, numbers)``: the coefficients of the
powers of theta on recorded steps, (k, degree + 1, n).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...core import floats
from ...core.step_control import controlled
from .arithmetic import error_ratio, finite
from .machine import call
from .run import NO_FAILURE, NONFINITE


class Sizes(NamedTuple):
    """The memory that a family needs: rows of Memory.stages, rows of vectors, numbers and marks.
    tape_stages: of a recorded step, the first rows of Memory.stages that its gradient needs; its
    dense output needs all. tape_numbers: the first of Memory.numbers that belong to it. implicit:
    whether the family needs a Jacobian and a matrix; slopes: whether it needs df/dt and f at the
    same point, too. blocks: matrices of twice the size. sparse: whether its matrix is that of
    linear.py, whose elimination can be sparse."""

    stages: int
    vectors: int = 0
    numbers: int = 0
    marks: int = 0
    tape_stages: int = 0
    tape_numbers: int = 0
    implicit: bool = False
    slopes: bool = False
    blocks: int = 0
    sparse: bool = False


def evaluate(run: Any, memory: Any, t: float, y: Any, target: Any) -> None:
    """target = f(t, y), (n,). Counts one evaluation."""
    run.nfe += 1
    call(run.f, t, y, y, memory.inputs, target, memory.work)


def linearise(run: Any, memory: Any, t: float, y: Any) -> None:
    """memory.jac = df/dy at (t, y), and df/dt and f if the family needs them (Sizes.slopes). Finite
    differences replace derivatives that are not finite, as in the torch engine
    (algebra/jacobian.py)."""
    run.njac += 1
    call(run.jac, t, y, y, memory.inputs, memory.jac, memory.work)
    if not finite(memory.jac, len(memory.rows) + len(memory.y)):
        call(run.repair, t, y, y, memory.inputs, memory.jac, memory.work)


def judge(run: Any, memory: Any) -> None:
    """Accept or refuse the attempt by memory.error, and choose the factor of the next step."""
    if not run.adaptive:
        run.ratio = 0.0
        run.factor = 1.0
        run.accepted_last = 1
        run.failure = NO_FAILURE
        return
    ratio = error_ratio(memory.error, memory.y, memory.y1, memory.atol, run.rtol)
    filters = (run.beta1, run.beta2, run.beta3)
    factor, r1, r2 = controlled(
        floats,
        ratio,
        run.r1,
        run.r2,
        run.order,
        filters,
        run.safety,
        run.smallest,
        run.largest,
    )
    run.factor = factor
    run.ratio = ratio
    run.failure = NO_FAILURE
    run.accepted_last = 0
    if ratio <= 1.0:
        run.accepted_last = 1
        run.next_r1 = r1
        run.next_r2 = r2
    elif not ratio > 1.0:
        fail(run, factor, NONFINITE)


def fail(run: Any, factor: float, failure: int) -> None:
    """The attempt could not be completed. factor: for the next one; failure: the code of its
    Status."""
    run.accepted_last = 0
    run.ratio = float("inf")
    run.factor = factor
    run.failure = failure
