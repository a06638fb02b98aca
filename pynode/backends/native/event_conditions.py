"""The conditions of events as native functions."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ...core.memory import raise_if_exhausted
from ...translate import NativeField, translate
from .conditions import Watched
from .fields import FlatCall
from .machine import FIELD

if TYPE_CHECKING:
    from ...core.events import Event
    from ...core.layout import Layout


class ConditionCall(FlatCall):
    """Calls a condition with a flat state, (n,), as FlatCall calls f. It returns its values,
    (outputs,)."""

    def __init__(self, layout: Layout, structure: Any, rows: bool, outputs: int) -> None:
        super().__init__(layout, structure, None, rows)
        self.outputs = outputs
        self.key = (*self.key, outputs)

    def joined(self, out: Any) -> Tensor:
        """The values of the condition, (outputs,)."""
        return out.reshape(-1)


class Conditions:
    """The native functions of the conditions of a solve.

    fields: a NativeField for each condition, with the tensors that it reads.
    """

    def __init__(self, fields: Sequence[NativeField], functions: Sequence[Any]) -> None:
        self.fields = fields
        table = [(function.address, function.size) for function in functions]
        self.table = np.array(table, dtype=np.int64).reshape(-1, 2)
        self.work = max((function.work for function in functions), default=0)
        self._functions = functions  # keep the code in memory
        # Copies of the tensors keep their memory.
        self._held = [[x.detach() for x in field.targets] for field in fields]
        width = max((len(held) for held in self._held), default=0)
        self.inputs = np.zeros((len(fields), width), np.int64)
        for line, held in zip(self.inputs, self._held, strict=True):
            line[: len(held)] = [x.data_ptr() for x in held]

    def of_rows(self, apart: dict[int, int], rows: np.ndarray) -> np.ndarray:
        """The inputs, (m, E, P), of the rows with these numbers, (m,). apart: for the id of each
        tensor of which a row reads its own row: how many bytes these rows lie apart."""
        shifts = np.zeros_like(self.inputs)
        for line, field in zip(shifts, self.fields, strict=True):
            line[: len(field.targets)] = [apart.get(id(x), 0) for x in field.targets]
        return self.inputs + rows[:, None, None] * shifts

    def evaluator(self, dtype: torch.dtype) -> Evaluator:
        """All conditions as a function of t and y, (n,) of this dtype."""
        return Evaluator(self, torch.empty(0, dtype=dtype).numpy().dtype)

    def watched(self, inputs: np.ndarray | None = None) -> Watched:
        """The arrays of one solve. inputs: (E, P), other ones than those of the fields."""
        if inputs is None:
            inputs = self.inputs
        return Watched(self.table, inputs, self.work, self)


class Evaluator:
    """All conditions as a function of t and y, (n,), in NumPy: their values, (K,) float64, one
    condition after the other."""

    def __init__(self, conditions: Conditions, real: np.dtype) -> None:
        self._conditions = conditions  # keeps the code and its tensors in memory
        self._real = real
        self._values = np.zeros(int(conditions.table[:, 1].sum()), real)
        self._work = np.zeros(max(1, conditions.work), real)
        self._work_address = self._work.ctypes.data
        self._calls = []
        out = self._values.ctypes.data
        for (address, size), inputs in zip(conditions.table, conditions.inputs, strict=True):
            self._calls.append((FIELD(int(address)), inputs.ctypes.data, out))
            out += int(size) * real.itemsize

    def __call__(self, t: float, y: np.ndarray) -> np.ndarray:
        y = np.ascontiguousarray(y, self._real)
        return self.at(t, y.ctypes.data).astype(np.float64)

    def at(self, t: float, state: int) -> np.ndarray:
        """The same for the address of a state. The next call writes to the same array."""
        for call, inputs, out in self._calls:
            call(t, state, state, inputs, out, self._work_address)
        return self._values


# Conditions that could not become native code, with the keys of their calls. They stay so for this
# process, even if a change of their code would help: pynode asks them in Python.
_REFUSED: weakref.WeakKeyDictionary[Any, set[Hashable]] = weakref.WeakKeyDictionary()


def native_conditions(
    events: Sequence[Event],
    sizes: Sequence[int],
    layout: Layout,
    args: tuple,
    t0: float,
    y0: Tensor,
    rows: bool = False,
) -> Conditions | None:
    """The conditions of events as native code, or None if one of them has none.

    sizes: how many values each condition returns. layout, args: of the solve. y0: (n,), the state
    near which native code is compared with torch. rows: whether the conditions take rows of a
    batch; each is then called with a batch of one row.
    """
    leaves, structure = pytree.tree_flatten(args)
    fields = []
    functions = []
    for event, size in zip(events, sizes, strict=True):
        call = ConditionCall(layout, structure, rows, size)
        field = _translated(event.condition, leaves, call, t0, y0)
        if field is None:
            return None
        fields.append(field)
        functions.append(field.function("f"))
    return Conditions(fields, functions)


def _translated(
    condition: Callable, leaves: list[Any], call: ConditionCall, t0: float, y0: Tensor
) -> NativeField | None:
    # A method is another object at every look-up.
    owner = getattr(condition, "__self__", condition)
    key = (getattr(condition, "__func__", None), call.key)
    try:
        refused = _REFUSED.setdefault(owner, set())
    except TypeError:  # no weak reference to this condition
        refused = set()
    if key in refused:
        return None
    try:
        field = translate(condition, y0.detach(), t0, leaves, call)
        field.function("f")
    # Not only TranslationRefused: a recording calls the condition at other points than a solve
    # does, where it may raise anything. If it does so in the solve, too, the user will see it.
    except Exception as error:
        raise_if_exhausted(error)
        refused.add(key)
        return None
    return field
