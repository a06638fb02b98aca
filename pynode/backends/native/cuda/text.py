"""The text of a kernel: the arrays of a thread, its records, and its inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..blocks import Own, Part
from ..machine import row
from .fieldcalls import from_text
from .functions import in_callers, record_in, record_in_simulator, simulated


class KernelText:
    """The parts of a kernel's text, and the names that it uses.

    names: its globals. lines: statements that make the arrays of a thread.
    """

    def __init__(self) -> None:
        from numba import cuda, from_dtype

        self._dtype = from_dtype
        self.names: dict[str, Any] = {
            "cuda": cuda,
            "row": in_callers(row),
            "record_in": in_callers(record_in_simulator if simulated() else record_in),
        }
        self.lines: list[str] = []

    def array(self, name: str, item: Any) -> None:
        """An array of a Blueprint: an Own in local memory, a Part of one, or an array that all rows
        share in constant memory."""
        if isinstance(item, Part):
            last = item.first + item.shape[0]
            text = f"{item.of}[{item.first} : {last}]"
        elif isinstance(item, Own) or item.size == 0:
            text = self._local(name, item.shape, np.dtype(item.dtype))
        else:
            text = self.constant(name, item)
        self.lines.append(f"{name} = {text}")

    def _local(self, name, shape, dtype):
        kind = f"{name}_type"
        self.names[kind] = self._dtype(dtype)
        room = tuple(max(1, extent) for extent in shape)
        text = f"cuda.local.array({room!r}, {kind})"
        if room == shape:
            return text
        # There are no local arrays without numbers.
        parts = [":" if extent else ":0" for extent in shape]
        return f"{text}[{', '.join(parts)}]"

    def constant(self, name: str, values: np.ndarray) -> str:
        """The expression of an array in constant memory."""
        self.names[f"{name}_values"] = values
        return f"cuda.const.array_like({name}_values)"

    def record(self, dtype: np.dtype) -> Any:
        """numba's type of a record."""
        return self._dtype(dtype)

    def tables(self, tables: Any) -> None:
        """The tables of a method, as ``tables``."""
        parts = []
        for name, values in zip(tables._fields, tables, strict=True):
            self.names[f"{name}_of_method"] = np.ascontiguousarray(values)
            parts.append(f"cuda.const.array_like({name}_of_method)")
        self.names["Tables"] = type(tables)
        self.lines.append(f"tables = Tables({', '.join(parts)})")

    def made(self, text: str, **parts: Any) -> Any:
        """The kernel. parts: of its text, lists of lines or of expressions."""
        from numba import cuda

        filled = {}
        for name, part in parts.items():
            filled[name] = part if isinstance(part, str) else ", ".join(part)
        filled["arrays"] = _indented(self.lines, 4)
        plain = from_text("kernel", text.format(**filled), self.names)
        return cuda.jit(plain)


def _indented(lines, spaces):
    return "\n".join(" " * spaces + line for line in lines)


def assignments(name: str, record: np.dtype, reals: str, counts: str, spaces: int) -> str:
    """Statements that fill a record of a kernel from the arrays of ``split``. name: of the record.
    reals, counts: of the arrays. spaces: before each statement."""
    lines = []
    places = {np.dtype(np.float64): 0, np.dtype(np.int64): 0}
    for field in record.names or ():
        kind = record[field]
        source = reals if kind == np.float64 else counts
        lines.append(f"{name}.{field} = {source}[{places[kind]}]")
        places[kind] += 1
    return _indented(lines, spaces)


def split(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a record, (1,): those that are floats, and those that are ints."""
    names = numbers.dtype.names or ()
    found = dict(zip(names, numbers[0].item(), strict=True))
    floats = [found[name] for name in names if numbers.dtype[name] == np.float64]
    ints = [found[name] for name in names if numbers.dtype[name] == np.int64]
    return np.array(floats), np.array(ints, dtype=np.int64)


def input_parts(count: int) -> tuple[list[str], str]:
    """(names of the targets as arguments of a kernel, the expressions of their numbers for row i).
    A target has the shape (B, k), or (1, k) if it belongs to all rows."""
    # A field without targets gets one that it does not read.
    targets = [f"target{k}" for k in range(max(1, count))]
    expressions = [f"row({name}, own({name}, i))" for name in targets]
    return targets, f"{', '.join(expressions)},"
