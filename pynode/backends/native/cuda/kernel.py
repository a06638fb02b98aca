"""The kernel: its text, with the arrays of a row in a thread's local memory.

A thread takes a row from an atomic counter, and makes one attempt of a step after the other. When
its row has ended, it takes the next one, while the other threads of its warp go on. So the loop of
the kernel is over attempts: ``advance`` returns after each of them.
"""

from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..blocks import Own
from ..conditions import may_fire
from ..loop import advance
from ..machine import call
from ..prepared import Prepared
from ..run import RECORD, RUNNING, Memory
from . import rows
from .fieldcalls import FieldFunctions, sources_of
from .functions import DeviceFunctions, as_device_function, device_functions
from .text import KernelText, assignments, input_parts

MOST = 64  # kernels that are kept
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
    "restarts": "row(batch.restarts, own(batch.stops, i))",
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


class RowKernel:
    """The kernel of a field and a method.

    plan: their Prepared, from the CPU. sources: of the functions of the field. targets: how many
    tensors they read. numbers: of these functions, by name.
    """

    def __init__(self, plan: Prepared, sources: dict[str, str], targets: int) -> None:
        functions = FieldFunctions(sources, targets, as_device_function)
        self.numbers = functions.numbers
        device = device_functions({call: functions.call, may_fire: as_device_function(rows.never)})
        text = KernelText()
        text.names.update(
            Batch=rows.Batch,
            RECORD=text.record(RECORD),
            RUNNING=RUNNING,
            ATTEMPTS=ATTEMPTS,
            family=device.of(plan.family),
            **{name: device.of(f) for name, f in FUNCTIONS.items()},
        )
        used = local_memory(text, device, plan)
        text.names["Memory"] = namedtuple("Memory", used)
        names, inputs = input_parts(targets)
        text.tables(plan.tables)
        given = dict(GIVEN)
        if plan.slopes:
            given["slopes"] = "batch.slopes[:, i]"
        self.launch = text.made(
            KERNEL,
            batch=rows.Batch._fields,
            settings=assignments("run", RECORD, "settings", "flags", 16),
            targets=names,
            inputs=inputs,
            memory=[f"{name}={given.get(name, name)}" for name in used],
        )


_KERNELS: dict[tuple, Any] = {}
_LOCK = threading.RLock()


def kernel_of(kind: Any, plan: Prepared, field: Any, names: Sequence[str]) -> Any:
    """The kernel of this class with these functions of the field. Fields with equal functions share
    it: a function that the user defines anew for each solve has the same kernel each time."""
    sources = sources_of(field, names)
    shared = [x for x in plan.blueprint.arrays.values() if isinstance(x, np.ndarray)]
    key = (
        kind,
        plan.family,
        plan.real,
        plan.size,
        plan.slopes,
        tuple(sources.items()),
        tuple(x.tobytes() for x in (*plan.tables, *shared)),
        tuple(tuple(x.shape) for x in field.targets),
    )
    with _LOCK:
        found = _KERNELS.pop(key, None)
        if found is None:
            found = kind(plan, sources, len(field.targets))
        _KERNELS[key] = found  # the newest comes last
        while len(_KERNELS) > MOST:
            del _KERNELS[next(iter(_KERNELS))]
        return found


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
