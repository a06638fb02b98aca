"""Python functions that look at the steps of a native solve: domains, callbacks and events.

Compiled code calls one Python function by its address, with a question in the record of the solve:
whether a step may end at its state, or whether the solve ends at an accepted step. The function
answers in the record.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...core.status import Status
from .machine import FIELD
from .run import ALLOWED, DOMAIN, EVERY_STEP, NO_STEP, POSSIBLE_EVENTS, STATUSES, Memory

if TYPE_CHECKING:
    from .blocks import Blocks


class NativeStep(NamedTuple):
    """An accepted step from t to t1 = t + h, rounded. start, y: (n,) its states, valid until the
    next step. polynomial: makes the coefficients, (degree + 1, n), of the powers of theta. counts:
    accepted steps, this one included, refused steps and evaluations of f."""

    t: float
    h: float
    t1: float
    start: np.ndarray
    y: np.ndarray
    polynomial: Callable[[], np.ndarray]
    counts: tuple[int, int, int]


class StepArrays(NamedTuple):
    """The arrays of Memory that a Hook reads."""

    y: np.ndarray
    y1: np.ndarray
    stages: np.ndarray
    numbers: np.ndarray

    @staticmethod
    def of(blocks: Blocks) -> StepArrays:
        """The arrays of one solve. All of them would take a tenth of the time of a short solve."""
        return StepArrays(*(blocks.of(name) for name in StepArrays._fields))


class Cut(NamedTuple):
    """The end of a solve inside a step or at its end. y: (n,)."""

    t: float
    y: np.ndarray
    status: Status


class Hook:
    """The Python function of a solve. error: what it raised. The solve then stops. end_state: (n,)
    of a step that was cut, at its own end.

    numbers: (1,) the record of the solve. allow, watch: see ``integrate``. filtered: whether
    compiled code says at which accepted steps the function looks.
    """

    def __init__(
        self,
        family: Any,
        tables: Any,
        numbers: np.ndarray,
        memory: Memory | StepArrays,
        allow: Callable[[float, np.ndarray], bool] | None,
        watch: Callable[[NativeStep], Cut | None] | None,
        filtered: bool,
    ) -> None:
        self.family = family
        self.tables = tables
        self.run = numbers[0]
        self.memory = memory
        self.allow = allow
        self.watch = watch
        self.error: BaseException | None = None
        self.end_state: np.ndarray | None = None
        self._function = FIELD(self._answer)
        self.run["hook"] = ctypes.cast(self._function, ctypes.c_void_p).value or 0
        self.run["limited"] = int(allow is not None)
        self.run["watched"] = NO_STEP
        if watch is not None:
            self.run["watched"] = POSSIBLE_EVENTS if filtered else EVERY_STEP

    def _answer(self, t: float, *addresses: int) -> None:
        # ctypes cannot pass an error through compiled code.
        try:
            if self.run["question"] == ALLOWED:
                if self.allow is not None and not self.allow(t, self.memory.y1.copy()):
                    self.run["verdict"] = DOMAIN
            elif self.watch is not None:
                self._watch(self.watch)
        except BaseException as error:
            self.error = error
            self.run["pause"] = 0

    def _watch(self, watch):
        run = self.run
        memory = self.memory
        step = NativeStep(
            float(run["t"]),
            float(run["h"]),
            float(run["t1"]),
            memory.y,
            memory.y1,
            self._polynomial,
            (int(run["accepted"]) + 1, int(run["rejected"]), int(run["nfe"])),
        )
        cut = watch(step)
        if cut is not None:
            self.end_state = memory.y1.copy()
            run["t1"] = cut.t
            memory.y1[:] = cut.y
            run["verdict"] = STATUSES.index(cut.status)

    def _polynomial(self) -> np.ndarray:
        memory = self.memory
        sizes = np.array([self.run["h"]])
        made = self.family.polynomials(
            self.tables, sizes, memory.y[None], memory.stages[None], memory.numbers[None]
        )
        return made[0]
