"""The gradients of many native solves at once, on all processors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...backends.native.blocks import Blocks
from ...backends.native.compiler import entry
from ...backends.native.loop import AT_END
from ...backends.native.rows import RowTrajectories, in_shares
from . import explicit, stability
from .prepared import PreparedSweep, prepared
from .pullback import COUNTS, FIRST_PIECE
from .row_events import RowEvents
from .sweep import RECORD, go_back

# Numbers in the gradients of the rows that go back side by side. It bounds the memory.
NUMBERS = 1 << 20
# Arrays of the sweep (sweep.Memory) by those of the solve (run.Memory) that they are.
TAPE = {
    "starts": "tape_t",
    "sizes": "tape_h",
    "states": "tape_y",
    "stages": "tape_stages",
    "tape_numbers": "tape_numbers",
    "last": "y",
}


class RowGradients(NamedTuple):
    """Of the rows from first on, R of them: cotangents of their starts, (R, n), and of the
    differentiable targets as each row has them, (R, ...). counts: the work of the backward
    passes."""

    first: int
    starts: np.ndarray
    targets: list[np.ndarray]
    counts: dict[str, int]


def pullback_rows(
    field: Any,
    rows: RowTrajectories,
    grads: np.ndarray,
    ends: np.ndarray,
    threads: int | None = None,
    inputs: np.ndarray | None = None,
    events: RowEvents | None = None,
) -> Iterator[RowGradients]:
    """The ``pullback`` of all rows, some at a time. The results do not depend on the threads.

    grads: (B, T - 1, n) cotangents of the outputs after the start; those that a row has not reached
    are not read. ends: (B, n) cotangents of the last states. threads, inputs: as in
    ``integrate_rows``. events: the events of the rows, with their cotangents.
    """
    if inputs is None:
        inputs = np.tile(field.pointers()[0], (len(rows), 1))
    plan = prepared(field, rows[0])
    size = max(1, NUMBERS // (plan.total + rows.plan.size))
    for first in range(0, len(rows), size):
        members = slice(first, min(first + size, len(rows)))
        parts = (grads[members], ends[members], inputs[members])
        yield _group(plan, rows, members, *parts, threads, events)
    if plan.family is explicit:
        for i in range(len(rows)):
            stability.check(field, rows[i], inputs[i])


def _group(plan, rows, members, grads, ends, inputs, threads, events):
    forward = rows.numbers[members]
    count = len(forward)
    outputs = grads.shape[1] + 1
    place = np.arange(count)
    reached = forward["position"] - 1
    # After the outputs of a row comes its last state.
    cotangents = np.zeros((count, outputs, grads.shape[2]), rows.plan.real)
    cotangents[:, :-1] = np.where(
        np.arange(outputs - 1)[:, None] < reached[:, None, None], grads, 0
    )
    cotangents[place, reached] = ends
    steps = np.full((count, outputs), -1)
    thetas = np.full((count, outputs), AT_END)
    steps[:, :-1] = rows.blocks.each("output_steps")[members, 1:]
    thetas[:, :-1] = rows.blocks.each("thetas")[members, 1:]
    steps[place, reached] = forward["accepted"] - 1
    thetas[place, reached] = AT_END
    if events is not None:
        thetas[place, reached] = events.found.end_theta[members]
        steps, thetas, cotangents = events.joined(members, reached, steps, thetas, cotangents)
        outputs = steps.shape[1]
    # Nothing comes back from what follows the last one that has a cotangent.
    used = outputs - np.argmax(cotangents.any(2)[:, ::-1], 1)
    used[~cotangents.any((1, 2))] = 0
    numbers = np.tile(plan.template.view(np.uint8), count).view(RECORD)
    numbers["h0"] = forward["h0"]
    numbers["output"] = used
    numbers["step"] = np.where(used > 0, steps[place, used - 1] + 1, 0)
    # A row without steps ends at its start.
    still = forward["accepted"] == 0
    numbers["output"][still] = 0
    blocks = plan.blueprint.blocks(count)
    slots = rows.blocks.slots[members]
    for name, source in TAPE.items():
        blocks.point(name, slots, rows.blocks.blueprint.places[source])
    if events is not None:
        blocks.give_each("last", events.last(members, rows.blocks.each("y")))
    # The solve's arrays have room for more steps than it took.
    for name in ("starts", "sizes"):
        blocks.slots[:, plan.blueprint.places[name] + 1] = forward["accepted"]
    blocks.give_each("inputs", inputs)
    blocks.give_each("output_steps", steps)
    blocks.give_each("thetas", thetas)
    blocks.give_each("cotangents", cotangents)
    _go_back(plan, numbers, blocks, threads)
    starts = blocks.each("ybar").copy()
    starts[still] += ends[still]
    counts = {name: int(numbers[name].sum()) for name in COUNTS}
    return RowGradients(members.start, starts, plan.split(blocks.each("grads")), counts)


def _go_back(plan: PreparedSweep, numbers: np.ndarray, blocks: Blocks, threads: int | None) -> None:
    """Run the sweeps of all rows to their ends."""
    loop = entry(go_back, plan.family, RECORD, plan.tables, plan.blueprint)

    def go(which: np.ndarray, work: np.ndarray) -> None:
        blocks.lend("work", which, work)
        numbers["pause"][which] = np.maximum(numbers["step"][which] - FIRST_PIECE, 0)
        loop.each(numbers, plan.tables, blocks.slots, which)

    def work() -> np.ndarray:
        return np.empty(plan.work, plan.real)

    going = np.flatnonzero(numbers["step"] >= 0)
    while len(going):
        in_shares(go, going, threads, resource=work)
        going = np.flatnonzero(numbers["step"] > 0)
