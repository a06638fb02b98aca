"""The kernel: its text, with the arrays of a row in a thread's local memory.

A thread takes a row from an atomic counter, and makes one attempt of a step after the other. When
its row has ended, it takes the next one, while the other threads of its warp go on. So the loop of
the kernel is over attempts: ``advance`` returns after each of them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..blocks import Own, Part
from ..conditions import may_fire
from ..loop import advance
from ..machine import call, row
from ..prepared import Prepared
from ..run import RECORD, RUNNING, Memory, Run
from . import rows
from .fieldcalls import FieldFunctions, from_text
from .functions import (
    DeviceFunctions,
    as_device_function,
    device_functions,
    in_callers,
    record_in,
    record_in_simulator,
    simulated,
)

ATTEMPTS = 1  # of a row before the thread looks whether it has ended

# Expressions of the arrays of row i that are not the thread's own.
GIVEN = {
    "inputs": "inputs",
    "lowest": "row(batch.lowest, own(batch.lowest, i))",
    "floor": "row(batch.floor, own(batch.floor, i))",
    "times": "row(batch.times, own(batch.times, i))[: batch.lengths[own(batch.lengths, i)]]",
    "outputs": "batch.outputs[:, i]",
    "output_steps": "row(batch.output_steps, own(batch.output_steps, i))",
    "thetas": "row(batch.thetas, own(batch.thetas, i))",
    "stops": "row(batch.stops, own(batch.stops, i))[: batch.stop_counts[own(batch.stops, i)]]",
    "tape_t": "batch.tape_t[batch.offsets[i] :]",
    "tape_h": "batch.tape_h[batch.offsets[i] :]",
    "tape_y": "batch.tape_y[batch.offsets[i] :]",
}

KERNEL = """
def kernel({batch}, settings, flags, counter, order, {targets}):
    batch = Batch({batch})
{arrays}
    runs = cuda.local.array(1, RECORD)
    run = record_in(runs)
    i = -1
    going = True
    while going:
        if i < 0 or run.status != RUNNING:
            if i >= 0:
                finish(batch, run, y, i)
            place = cuda.atomic.add(counter, 0, 1)
            if place < len(order):
                i = order[place]
{settings}
                begin(batch, run, y, atol, i)
            else:
                going = False
        if going:
            inputs = ({inputs})
            memory = Memory({memory})
            run.pause = run.attempts + ATTEMPTS
            advance(family, run, tables, memory)
"""


class KernelText:
    """The parts of a kernel's text, and the names that it uses.

    names: its globals. lines: statements that make the arrays of a thread.
    """

    def __init__(self) -> None:
        from numba import cuda, from_dtype

        self._dtype = from_dtype
        self.names: dict[str, Any] = {"cuda": cuda, "row": in_callers(row)}
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


def settings_lines() -> str:
    """Statements that make ``run`` from the numbers of ``settings_of``."""
    lines = []
    counts = {float: 0, int: 0}
    for name in Run._fields:
        kind = RUN_KINDS[name]
        source = "settings" if kind is float else "flags"
        lines.append(f"run.{name} = {source}[{counts[kind]}]")
        counts[kind] += 1
    return _indented(lines, 16)


RUN_KINDS = {name: float if RECORD[name] == np.float64 else int for name in Run._fields}


def settings_of(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a Run, (1,) RECORD: those that are floats, and those that are ints."""
    values = dict(zip(Run._fields, numbers[0].item(), strict=True))
    floats = [values[name] for name in Run._fields if RUN_KINDS[name] is float]
    ints = [values[name] for name in Run._fields if RUN_KINDS[name] is int]
    return np.array(floats), np.array(ints, dtype=np.int64)


def input_parts(count: int) -> tuple[list[str], str]:
    """(names of the targets as arguments of a kernel, the expressions of their numbers for row i).
    A target has the shape (B, k), or (1, k) if it belongs to all rows."""
    # A field without targets gets one that it does not read.
    targets = [f"target{k}" for k in range(max(1, count))]
    expressions = [f"row({name}, own({name}, i))" for name in targets]
    return targets, f"{', '.join(expressions)},"


class RowKernel:
    """The kernel of a field and a method.

    plan: their Prepared, from the CPU. numbers: of the functions of the field, by name.
    """

    def __init__(self, plan: Prepared, field: Any) -> None:
        functions = FieldFunctions(field, functions_of(plan), as_device_function)
        self.plan = plan
        self.numbers = functions.numbers
        device = device_functions({call: functions.call, may_fire: as_device_function(rows.never)})
        text = KernelText()
        text.names.update(
            Batch=rows.Batch,
            RECORD=text.record(RECORD),
            RUNNING=RUNNING,
            ATTEMPTS=ATTEMPTS,
            record_in=in_callers(record_in_simulator if simulated() else record_in),
            family=device.of(plan.family),
            **{name: device.of(f) for name, f in FUNCTIONS.items()},
        )
        used = local_memory(text, device, plan)
        text.names["Memory"] = namedtuple("Memory", used)
        targets, inputs = input_parts(len(field.targets))
        text.tables(plan.tables)
        given = dict(GIVEN)
        if plan.slopes:
            given["slopes"] = "batch.slopes[:, i]"
        self.launch = text.made(
            KERNEL,
            batch=rows.Batch._fields,
            settings=settings_lines(),
            targets=targets,
            inputs=inputs,
            memory=[f"{name}={given.get(name, name)}" for name in used],
        )


def functions_of(plan: Prepared) -> list[str]:
    """The functions of the field that a solve needs, by the translator's names: f, and then the
    Jacobian."""
    if not plan.sizes.implicit:
        return ["f"]
    if plan.sizes.slopes:
        return ["f", "jac_step"]
    return ["f", "jac_kept"]


FUNCTIONS = {"advance": advance, "begin": rows.begin, "finish": rows.finish, "own": rows.own}


def local_memory(text: KernelText, device: DeviceFunctions, plan: Prepared) -> list[str]:
    """Write the arrays of a solve that a thread has for itself. Returns the names of all arrays
    that the copied functions use."""
    used = [name for name in Memory._fields if name in device.names]
    arrays: Mapping[str, Any] = {
        **plan.blueprint.arrays,
        "work": Own((1,), plan.real),
        # A step can be made again from its start: the tape has no stages.
        "tape_stages": Own((1, 0, plan.size), plan.real),
        "tape_numbers": Own((1, 0), np.float64),
        "slopes": Own((1, plan.size), plan.real),
    }
    for name in used:
        if name not in GIVEN and not (name == "slopes" and plan.slopes):
            text.array(name, arrays[name])
    return used
