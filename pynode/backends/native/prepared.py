"""What all solves of a field by one method share: a solve makes little more than its memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.step_control import FILTERS, FIXED_STOP_TOLERANCE, STOP_TOLERANCE, Controller
from ...methods.bdf.step import BDF
from .blocks import Blueprint, Given, Own
from .conditions import no_conditions
from .families import FAMILIES, tables_of
from .linear import linear_arrays
from .mass import NativeMass
from .repair import repairs, where
from .run import HISTORY, RECORD, Memory, Run

if TYPE_CHECKING:
    from ...core.options import Options

UNUSED = Controller()
CAPACITY = 256  # steps that the record has room for at the start
TAPE = ("tape_t", "tape_h", "tape_y", "tape_stages", "tape_numbers")
MOST = 32  # Prepared of one field, at most


class Prepared:
    """The functions of a field and the tables of a method, and where the arrays of a solve lie.

    field: a NativeField (translate/field.py). method: of a family in FAMILIES. real: the dtype of
    the state. size: its components. record: whether the accepted steps are kept for a gradient;
    dense: also what their polynomials need; slopes: whether dy/dt is written at the outputs.
    Raise TypeError if no family runs the method.
    """

    def __init__(
        self, field: Any, method: Any, real: np.dtype, record: bool, dense: bool, slopes: bool
    ) -> None:
        family = FAMILIES.get(method)
        if family is None:
            raise TypeError(
                f"the native engine has no {method.name}; use 'tsit5', 'rodas5p' or another method"
                " of their families, or backend='torch'"
            )
        self.family = family
        self.method = method
        # A NativeMass; a NativeField by itself has none.
        self.mass: NativeMass | None = getattr(field, "mass", None)
        given = None
        if self.mass is not None:
            given = self.mass.given
        self.tables = tables_of(family, method, given)
        self.sizes = family.sizes(self.tables)
        self.f = field.function("f")
        self.jac: Any = None
        self.repair = 0
        self.work = self.f.work
        if self.sizes.implicit:
            # The backward pass has the same Jacobian, with what is beside it.
            self.jac = field.function("jac_step" if self.sizes.slopes else "jac_kept")
            self.work = max(self.work, self.jac.work)
            self._repair = repairs(field)
            self.repair = where(self._repair)
        self.work = max(1, self.work)
        self.size = field.n
        self.record = record or dense
        self.dense = dense
        self.slopes = slopes
        self.real = real
        self.tiny = float(np.finfo(real).tiny)
        self.blueprint = self._blueprint(field)
        # Of the passes with derivatives: adjoints/native/prepared.py and forward/sensitivities.py.
        self.sweep: Any = None
        self.forward: Any = None
        # Of the kernel, and the order in which it takes rows: cuda/launch.py.
        self.device: Any = None
        self.device_sweep: Any = None
        self.device_order: Any = None
        # The numbers of the last solve's options: solves with the same options follow one another.
        self._last: tuple[Any, Any] = (None, None)

    def _blueprint(self, field: Any) -> Blueprint:
        sizes = self.sizes
        real = self.real
        n = field.n
        rows = columns = np.empty(0, np.int64)
        matrices = 0
        if sizes.implicit:
            rows, columns = field.pattern()
            matrices = n
        capacity = CAPACITY if self.record else 0
        tape_stages = sizes.stages if self.dense else sizes.tape_stages
        arrays = {
            "y": Own((n,), real, True),
            "y1": Own((n,), real, True),
            "point": Own((n,), real, True),
            "error": Own((n,), real, True),
            "atol": Own((n,), np.float64),
            "lowest": Own((n,), np.float64),
            "floor": Own((n,), np.float64),
            "first_slope": Own((n,), real),
            "stages": Own((sizes.stages, n), real, True),
            "vectors": Own((sizes.vectors, n), real, True),
            "numbers": Own((sizes.numbers,), np.float64, True),
            "marks": Own((sizes.marks,), np.int64, True),
            "jac": Own((len(rows) + n * (sizes.implicit + sizes.slopes),), real, True),
            "rows": rows,
            "columns": columns,
            "matrix": Own((matrices, matrices), real),
            "pivots": Own((matrices,), np.int64),
            "blocks": Own((sizes.blocks, 2 * n, 2 * n), real),
            "block_pivots": Own((sizes.blocks, 2 * n), np.int64),
            "inputs": Given(1, np.int64),
            "work": Given(1, real),
            "times": Given(1, np.float64),
            "outputs": Given(2, real),
            "output_steps": Given(1, np.int64),
            "thetas": Given(1, np.float64),
            "slopes": Given(2, real),
            "stops": Given(1, np.float64),
            "restarts": Given(1, np.float64),
            "history": Own((HISTORY, 4), np.float64),
            **no_conditions(real),
            "tape_t": Own((capacity,), np.float64),
            "tape_h": Own((capacity,), np.float64),
            "tape_y": Own((capacity, n), real),
            "tape_stages": Own((capacity, tape_stages, n), real),
            "tape_numbers": Own((capacity, sizes.tape_numbers), np.float64),
            **linear_arrays(n, rows, columns, real, sizes.sparse, self.mass),
        }
        return Blueprint(Memory, arrays)

    def numbers(self, options: Options, zero_atol: bool, bounded: bool) -> np.ndarray:
        """(1,) RECORD of a solve, without its times, its limit of evaluations and its counts.

        zero_atol: whether a component has no atol. bounded: whether components have bounds.
        """
        key = (
            options.rtol,
            options.first_step,
            options.step_size,
            options.min_step,
            options.max_step,
            options.max_steps,
            options.max_nfe,
            zero_atol,
            bounded,
        )
        known, numbers = self._last
        if known != key:
            record = np.array([tuple(self._run(options, zero_atol, bounded))], dtype=RECORD)
            # NumPy copies a record field by field, but bytes at once.
            numbers = record.view(np.uint8)
            self._last = (key, numbers)
        return numbers.copy().view(RECORD)

    def _run(self, options, zero_atol, bounded):
        method = self.method
        limits = np.finfo(self.real)
        # BDF has no controller: it has its own rule.
        controller = getattr(method, "controller", UNUSED)
        beta1, beta2, beta3 = FILTERS[controller.kind]
        fixed = options.step_size is not None
        first = options.first_step or 0.0
        stop_tolerance = STOP_TOLERANCE
        if fixed:
            first = options.step_size
            stop_tolerance = FIXED_STOP_TOLERANCE
        most = options.max_nfe
        if most is None:
            most = method.evaluations_a_step * options.max_steps
        return Run(
            t=0.0,
            h=0.0,
            end=0.0,
            direction=1.0,
            rtol=options.rtol,
            min_step=options.min_step,
            max_step=options.max_step,
            max_nfe=most,
            stop_tolerance=stop_tolerance,
            tiny=self.tiny,
            eps=float(limits.eps),
            zero_atol=int(zero_atol),
            beta1=beta1,
            beta2=beta2,
            beta3=beta3,
            safety=controller.safety,
            smallest=controller.smallest,
            largest=controller.largest,
            order=method.error_order,
            adaptive=int(getattr(method, "adaptive", True) and not fixed),
            fixed=int(fixed),
            one_step=int(not isinstance(method, BDF)),
            max_steps=options.max_steps,
            record=int(self.record),
            dense=int(self.dense),
            slopes=int(self.slopes),
            bounded=int(bounded),
            f=self.f.address,
            jac=0 if self.jac is None else self.jac.address,
            repair=self.repair,
            hook=0,
            limited=0,
            watched=0,
            first_step=first,
        )


def prepared(
    field: Any, method: Any, real: np.dtype, record: bool, dense: bool, slopes: bool
) -> Prepared:
    """The Prepared of these arguments, which the field keeps."""
    kept = field.kept
    mass = getattr(field, "mass", None)
    key = (id(method), real.char, record, dense, slopes, mass and mass.key)
    found = kept.get(key)
    if found is None:
        found = Prepared(field, method, real, record, dense, slopes)
        # It holds the method, whose id is the key.
        while len(kept) >= MOST:
            kept.pop(next(iter(kept)), None)
        kept[key] = found
    return found


def direction(times: Sequence[float]) -> float:
    """1.0 for rising times, -1.0 for falling ones."""
    return math.copysign(1.0, times[-1] - times[0])
