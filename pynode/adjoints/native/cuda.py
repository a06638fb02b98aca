"""The gradients of the rows of a batch on a GPU: the sweep of the native engine as a kernel.

The record of the solve has the starts of the steps alone. A thread makes the stages of a step
again, by the step of the solve, and goes back through it by the sweep of the native engine. What
the stages leave of the Jacobian and its factors, the sweep uses.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...backends.native import run as solve_run
from ...backends.native import steps
from ...backends.native.arithmetic import clear, copy
from ...backends.native.blocks import Own
from ...backends.native.cuda.fieldcalls import FieldFunctions
from ...backends.native.cuda.functions import as_device_function, device_functions
from ...backends.native.cuda.kernel import functions_of, kernel_of
from ...backends.native.cuda.launch import RowInputs, RowResults, launch
from ...backends.native.cuda.rows import own
from ...backends.native.cuda.text import KernelText, assignments, input_parts, split
from ...backends.native.loop import AT_END
from ...backends.native.machine import call, row
from ...backends.native.prepared import Prepared
from ...core.transfer import to_device
from . import sweep
from .prepared import PreparedSweep

# Numbers in the cotangents of the targets of the rows that go back in one launch.
NUMBERS = 1 << 26
COUNTS = ("nfe", "njac", "nlu", "nsolve", "nvjp")

# Expressions of the arrays of row i, and of its step, that are not the thread's own.
GIVEN = {
    "inputs": "inputs",
    "starts": "batch.tape_t[batch.offsets[i] + step :]",
    "sizes": "batch.tape_h[batch.offsets[i] + step :]",
    "states": "batch.tape_y[batch.offsets[i] + step :]",
    "stages": "step_stages",
    "last": "row(batch.last, i)",
    "output_steps": "row(batch.output_steps, i)",
    "thetas": "row(batch.thetas, i)",
    "cotangents": "batch.cotangents[i]",
}

KERNEL = """
def kernel({batch}, settings, flags, reals, counts, counter, order, {targets}):
    batch = Batch({batch})
{arrays}
    stages = row(step_stages, 0)
    solves = cuda.local.array(1, SOLVE)
    solve = record_in(solves)
    runs = cuda.local.array(1, SWEEP)
    run = record_in(runs)
    i = -1
    step = 0
    place = -1
    going = True
    while going:
        if step == 0:
            if i >= 0:
                finish(batch, solve, run, ybar, grads, place, i)
            place = cuda.atomic.add(counter, 0, 1)
            if place < len(order):
                i = order[place]
                step = batch.steps[i]
{settings}
{numbers}
                run.output = batch.used[i]
                clear(ybar)
                clear(pulled)
            else:
                going = False
        if step > 0:
            step -= 1
            inputs = ({inputs})
            restart(batch, solve, run, y, i, step)
            attempt(solve, tables, Solve({solve}))
            go_back(family, run, tables, Sweep({sweep}))
"""


class Batch(NamedTuple):
    """The arrays of all rows. B: rows; m: their outputs after the start, the last state included;
    N: recorded steps; G: rows of one launch."""

    offsets: Any  # (B,) int64: where the record of each row begins
    tape_t: Any  # (N + 1,) float64
    tape_h: Any  # (N + 1,) float64
    tape_y: Any  # (N + 1, n) T
    last: Any  # (B, n) T
    steps: Any  # (B,) int64: of each row, those to go back through
    used: Any  # (B,) int64: of each row, its outputs that have cotangents, and those before
    output_steps: Any  # (B, m) int64
    thetas: Any  # (B, m) float64
    cotangents: Any  # (B, m, n) T
    starts: Any  # (B, n) T: the results, cotangents of the starts
    parts: Any  # (G, P) T: the results, cotangents of all targets
    work: Any  # (len(COUNTS), B) int64: the work of each row


def restart(batch: Batch, solve: Any, run: Any, y: np.ndarray, i: int, step: int) -> None:
    """Make ``solve`` and y the start of a step of row i, and ``run`` the sweep of this step."""
    place = batch.offsets[i] + step
    solve.t = batch.tape_t[place]
    solve.h = batch.tape_h[place]
    solve.known = 0
    copy(row(batch.tape_y, place), y)
    run.first = step
    run.step = 1


def finish(
    batch: Batch,
    solve: Any,
    run: Any,
    ybar: np.ndarray,
    grads: np.ndarray,
    place: int,
    i: int,
) -> None:
    """Write the cotangents of row i, which the thread has taken from this place. The counts are in
    the order of COUNTS."""
    copy(ybar, row(batch.starts, i))
    copy(grads, row(batch.parts, place))
    batch.work[0, i] = solve.nfe + run.nfe
    batch.work[1, i] = solve.njac
    batch.work[2, i] = solve.nlu
    batch.work[3, i] = solve.nsolve + run.nsolve
    batch.work[4, i] = run.nvjp


def no_judgement(run: Any, memory: Any) -> None:
    """In place of steps.judge: the solve has accepted the step."""


def known_factors(run: Any, memory: Any, t: float, y: Any, c: float) -> None:
    """In place of sweep.factorise_at: the stages were made with the same factors."""


class SweepKernel:
    """The kernel that goes back. plan: the Prepared of the solve, with its PreparedSweep. sources,
    targets, numbers: see RowKernel."""

    def __init__(self, plan: Prepared, sources: dict[str, str], targets: int) -> None:
        functions = FieldFunctions(sources, targets, as_device_function)
        self.numbers = functions.numbers
        forward = device_functions(
            {call: functions.call, steps.judge: as_device_function(no_judgement)}
        )
        backward = device_functions(
            {call: functions.call, sweep.factorise_at: as_device_function(known_factors)}
        )
        text = KernelText()
        text.names.update(
            Batch=Batch,
            SOLVE=text.record(solve_run.RECORD),
            SWEEP=text.record(sweep.RECORD),
            attempt=forward.of(plan.family.attempt),
            go_back=backward.of(sweep.go_back),
            family=backward.of(plan.sweep.family),
            **{f.__name__: backward.of(f) for f in (clear, restart, finish, own)},
        )
        solve_arrays = [name for name in solve_run.Memory._fields if name in forward.names]
        sweep_arrays = [name for name in sweep.Memory._fields if name in backward.names]
        text.names["Solve"] = namedtuple("Solve", solve_arrays)
        text.names["Sweep"] = namedtuple("Sweep", sweep_arrays)
        self._write_arrays(text, plan, {*solve_arrays, *sweep_arrays})
        names, inputs = input_parts(targets)
        text.tables(plan.tables)
        self.launch = text.made(
            KERNEL,
            batch=Batch._fields,
            settings=assignments("solve", solve_run.RECORD, "settings", "flags", 16),
            numbers=assignments("run", sweep.RECORD, "reals", "counts", 16),
            targets=names,
            inputs=inputs,
            solve=[f"{name}={name}" for name in solve_arrays],
            sweep=[f"{name}={GIVEN.get(name, name)}" for name in sweep_arrays],
        )

    def _write_arrays(self, text, plan, used):
        stages = Own((1, plan.sizes.stages, plan.size), plan.real)
        text.array("step_stages", stages)
        arrays = {
            **plan.blueprint.arrays,
            **plan.sweep.blueprint.arrays,
            "work": Own((1,), plan.real),
            "kept": Own((1, 1), plan.real),
            "tape_numbers": Own((1, 0), np.float64),
        }
        own_names = used - set(GIVEN)
        # A Part comes after the array that it is a part of.
        for name in sorted(own_names | {"ybar", "pulled", "grads"}, key=list(arrays).index):
            text.array(name, arrays[name])


def prepared_sweep(plan: Prepared, field: Any) -> PreparedSweep:
    """The PreparedSweep of a plan, whose functions have been compared with torch."""
    if plan.sweep is None:
        plan.sweep = PreparedSweep(field, plan)
    return plan.sweep


def second_of(plan: Prepared) -> str:
    """The translator's name of the sum of second derivatives of a step; '' if the method needs
    none."""
    count = plan.sweep.sizes.slopes
    if not count:
        return ""
    return f"add_second*{min(count, plan.size)}"


class RowGradients(NamedTuple):
    """Of some rows, (G,) numbers: the cotangents of the differentiable targets as each row has
    them, (G, ...)."""

    rows: Tensor
    targets: list[Tensor]


class RowsBack:
    """The way back through the rows of a solve.

    plan, field, numbers, given: of solve_rows. results: its RowResults with a record. grads:
    (B, T - 1, n) cotangents of the outputs after the start; those that a row has not reached are
    not read. ends: (B, n) cotangents of the last states. starts: (B, n), the cotangents of the
    starts, and work: (len(COUNTS), B), both after ``groups``.
    """

    def __init__(
        self,
        plan: Prepared,
        field: Any,
        numbers: np.ndarray,
        given: RowInputs,
        results: RowResults,
        grads: Tensor,
        ends: Tensor,
    ) -> None:
        self.sweep = prepared_sweep(plan, field)
        self.second = second_of(plan)
        if plan.device_sweep is None:
            names = [*functions_of(plan), "add_pullback", self.second]
            plan.device_sweep = kernel_of(SweepKernel, plan, field, [x for x in names if x])
        self.kernel: SweepKernel = plan.device_sweep
        self.plan = plan
        self.given = given
        self.results = results
        self.accepted = results.of("accepted")
        self._ends = ends
        count, size = ends.shape
        self.starts = ends.new_zeros((count, size))
        self.work = torch.zeros((len(COUNTS), count), dtype=torch.int64, device=ends.device)
        self._place_outputs(grads)
        self._records = self._numbers(numbers)

    def _place_outputs(self, grads):
        """Where the outputs of the rows lie, and after them their last states: (B, m)."""
        batch = self.results.batch
        reached = self.results.of("position") - 1
        column = torch.arange(grads.shape[1] + 1, device=grads.device)
        inside = column < reached[:, None]
        last = column == reached[:, None]
        room = grads.new_zeros((len(grads), 1, grads.shape[2]))
        self.cotangents = torch.where(inside[..., None], torch.cat((grads, room), 1), 0.0)
        self.cotangents += torch.where(last[..., None], self._ends[:, None], 0.0)
        ones = torch.ones_like(inside[:, :1])
        self.output_steps = torch.where(
            inside, torch.cat((batch.output_steps[:, 1:], -ones.long()), 1), -1
        )
        self.output_steps = torch.where(last, self.accepted[:, None] - 1, self.output_steps)
        thetas = torch.cat((batch.thetas[:, 1:], ones.double()), 1)
        self.thetas = torch.where(inside, thetas, AT_END)
        # Nothing comes back from what follows the last one that has a cotangent.
        some = self.cotangents.ne(0).any(2)
        used = (some * (column + 1)).amax(1)
        step = self.output_steps.gather(1, (used - 1).clamp(min=0)[:, None]).squeeze(1)
        self.still = self.accepted == 0  # such a row ends at its start
        none = self.still | (used == 0)
        self.used = torch.where(none, 0, used)
        self.steps = torch.where(none, 0, step + 1)

    def _numbers(self, numbers):
        """Two records, of the solve and of the sweep, each as floats and ints."""
        kernel = self.kernel
        solve = numbers.copy()
        functions = functions_of(self.plan)
        solve["f"] = kernel.numbers["f"]
        solve["jac"] = kernel.numbers.get(functions[-1], 0)
        solve["repair"] = 0
        back = np.zeros(1, sweep.RECORD)
        back["f"] = kernel.numbers["f"]
        back["pullback"] = kernel.numbers["add_pullback"]
        back["second"] = kernel.numbers.get(self.second, 0)
        back["opens"] = 1
        device = self._ends.device
        return [to_device(part, device) for part in (*split(solve), *split(back))]

    def groups(self) -> Iterator[RowGradients]:
        """The cotangents of the targets, some rows at a time."""
        batch = self.results.batch
        order = torch.argsort(self.steps, descending=True, stable=True)
        total = self.sweep.total
        size = max(1, NUMBERS // max(1, total))
        for first in range(0, len(order), size):
            rows = order[first : first + size].contiguous()
            parts = self.starts.new_zeros((len(rows), max(1, total)))
            arrays = Batch(
                offsets=batch.offsets,
                tape_t=batch.tape_t,
                tape_h=batch.tape_h,
                tape_y=batch.tape_y,
                last=batch.last,
                steps=self.steps,
                used=self.used,
                output_steps=self.output_steps,
                thetas=self.thetas,
                cotangents=self.cotangents,
                starts=self.starts,
                parts=parts,
                work=self.work,
            )
            counter = torch.zeros(1, dtype=torch.int64, device=rows.device)
            tensors = (*arrays, *self._records, counter, rows, *self._targets())
            launch(self.kernel.launch, len(rows), tensors)
            yield RowGradients(rows, self._split(parts))
        self.starts += torch.where(self.still[:, None], self._ends, 0.0)

    def _targets(self):
        return self.given.targets or [self._ends]

    def _split(self, parts):
        plan = self.sweep
        found = []
        for k, shape in enumerate(plan.shapes):
            part = parts[:, plan.ends[k] : plan.ends[k + 1]]
            found.append(part.reshape(len(parts), *shape))
        return found
