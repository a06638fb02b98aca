"""Newton's iteration with a Jacobian that lives over many steps, as algebra/newton.py and
methods/jacobian_reuse.py.

A family that uses it reserves MARKS marks, NUMBERS numbers and VECTORS vectors of a Memory, from
the front of each. The vectors are those of one state; a method that solves for several at once
reserves as many for each.
"""

from __future__ import annotations

import math
from typing import Any

from ...algebra.newton import UNKNOWN, convergence_test
from ...core import floats
from ...core.norm import NEWTON as FRACTION
from ...core.norm import ROUNDING, STAGES, floor_of_rounding
from .arithmetic import add, copy
from .linear import factorise_system, solve_system
from .machine import flat, row
from .mass import MASS, add_product, has_mass
from .steps import evaluate, linearise

# Positions in Memory.marks: whether there is a Jacobian, whether it belongs to this point, whether
# the matrix is factorised, whether it is regular, and the iterations of the last call.
HAS_JACOBIAN = 0
FRESH = 1
FACTORISED = 2
REGULAR = 3
ITERATIONS = 4
MARKS = 5
# Positions in Memory.numbers: c of the matrix M - c J, the convergence rate with it, the rate and
# the norm of the last correction after an iteration, and of Tolerance (core/norm.py) the floor of
# rounding and the fractions of the error that Newton's iteration may leave.
C = 0
RATE = 1
MEASURED = 2
NORM = 3
FLOOR = 4
WHOLE = 5
STAGE = 6
NUMBERS = 7
# Positions in Memory.vectors, in units of the states of an unknown: weights of the norm, their copy
# for an iteration, the distance between iterate and start, and the last correction.
SCALE = 0
OWN_SCALE = 1
INCREMENT = 2
CHANGE = 3
VECTORS = 4


def begin_newton(run: Any, memory: Any) -> None:
    """No Jacobian yet. Reads the tolerances."""
    marks = memory.marks
    numbers = memory.numbers
    marks[FRESH] = 0
    forget(memory)
    numbers[C] = 0.0
    numbers[RATE] = UNKNOWN
    floor = floor_of_rounding(run.rtol, ROUNDING * run.eps)
    numbers[FLOOR] = floor
    numbers[WHOLE] = max(floor, FRACTION)
    numbers[STAGE] = max(floor, STAGES * FRACTION)


def forget(memory: Any) -> None:
    """Drop the Jacobian and its factors."""
    memory.marks[HAS_JACOBIAN] = 0
    memory.marks[FACTORISED] = 0


def set_c(memory: Any, c: float) -> None:
    """Drop factors for another c."""
    if c != memory.numbers[C]:
        memory.numbers[C] = c
        memory.marks[FACTORISED] = 0


def prepare(run: Any, memory: Any, t: float, y: Any) -> bool:
    """Make the Jacobian at (t, y) and factorise M - c J, as far as they are missing. Returns
    whether the matrix is regular."""
    marks = memory.marks
    if not marks[HAS_JACOBIAN]:
        linearise(run, memory, t, y)
        marks[HAS_JACOBIAN] = 1
        marks[FRESH] = 1
        marks[FACTORISED] = 0
    if not marks[FACTORISED]:
        run.nlu += 1
        marks[REGULAR] = factorise_system(memory, memory.numbers[C])
        marks[FACTORISED] = 1
        memory.numbers[RATE] = UNKNOWN
    return marks[REGULAR] != 0


def write_scale(run: Any, memory: Any, y: Any) -> None:
    """The weights of the norm at y: atol + rtol |y|."""
    scale = row(memory.vectors, SCALE)
    for k in range(len(y)):
        scale[k] = memory.atol[k] + run.rtol * abs(y[k])


def norm_of(v: Any, scale: Any, n: int) -> float:
    """The square root of the sum of (v / scale)^2 / n (Tolerance.rms). n: of the components of the
    system."""
    total = 0.0
    for k in range(len(v)):
        scaled = v[k] / scale[k]
        total += scaled * scaled
    return math.sqrt(total / n)


def iterate(
    system: Any,
    run: Any,
    tables: Any,
    memory: Any,
    t: float,
    y: Any,
    width: int,
    tolerance: float,
    limit: int,
) -> bool:
    """Solve M (y - start + psi) = c f(t, y) for y (algebra/newton.py: simplified_newton). M is the
    mass matrix or the identity.

    system: a module with ``correct``, as here. Before, y is the start, the vectors INCREMENT are
    psi, the vectors SCALE have the weights of the norm, and MEASURED is the last convergence rate
    with the matrix. y: (width n,), width states of the system. tolerance: the norm of the error
    that may remain; limit: of the iterations. Sets CHANGE, ITERATIONS, NORM and MEASURED. Returns
    whether it converged.
    """
    numbers = memory.numbers
    increment = flat(memory.vectors, INCREMENT * width, width)
    change = flat(memory.vectors, CHANGE * width, width)
    scale = flat(memory.vectors, OWN_SCALE * width, width)
    copy(flat(memory.vectors, SCALE * width, width), scale)
    rate = numbers[MEASURED]
    last = math.inf
    for iteration in range(1, limit + 1):
        system.correct(run, tables, memory, t, y, increment, change)
        run.nsolve += 1
        norm = norm_of_change(run, y, change, scale, len(memory.y))
        memory.marks[ITERATIONS] = iteration
        numbers[NORM] = norm
        if not math.isfinite(norm):
            numbers[MEASURED] = UNKNOWN
            return False
        before = rate
        done, hopeless, rate = convergence_test(
            floats,
            norm,
            last,
            rate,
            iteration > 1,
            limit - iteration,
            tolerance,
            numbers[FLOOR],
        )
        if hopeless:
            done = norm <= rounding(run, y, increment, scale, len(memory.y))
            if done:
                rate = before
        numbers[MEASURED] = rate
        if hopeless and not done:
            return False
        add(y, 1.0, change)
        if done:
            return True
        add(increment, 1.0, change)
        last = norm
    return False


def correct(
    run: Any, tables: Any, memory: Any, t: float, y: Any, increment: Any, change: Any
) -> None:
    """change = the correction of the iterate y, (n,)."""
    c = memory.numbers[C]
    evaluate(run, memory, t, y, change)
    if has_mass(memory):
        for k in range(len(y)):
            change[k] *= -c
        add_product(memory, MASS, 1.0, increment, change)
    else:
        for k in range(len(y)):
            change[k] = increment[k] - c * change[k]
    solve_system(memory, change, -1.0)


def norm_of_change(run: Any, y: Any, change: Any, scale: Any, n: int) -> float:
    """The norm of a correction. A component without atol gets the scale of the new iterate."""
    if run.zero_atol:
        for k in range(len(y)):
            scale[k] = max(scale[k], run.rtol * abs(y[k] + change[k]))
    return norm_of(change, scale, n)


def rounding(run: Any, y: Any, increment: Any, scale: Any, n: int) -> float:
    """The norm of the rounding error of a correction to y (Tolerance.rounding)."""
    total = 0.0
    for k in range(len(y)):
        scaled = (abs(y[k]) + abs(increment[k])) / scale[k]
        total += scaled * scaled
    return ROUNDING * run.eps * math.sqrt(total / n)
