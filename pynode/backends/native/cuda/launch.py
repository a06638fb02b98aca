"""Solves of many rows by the kernel: the arrays of the rows on the device, and what comes back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....core.transfer import to_device
from ..prepared import Prepared
from ..run import RUNNING
from .functions import simulated
from .kernel import RowKernel, functions_of, kernel_of
from .rows import COUNTS, REALS, Batch
from .text import split

# Threads of a block, and blocks for each multiprocessor. There are no more threads than rows.
THREADS = 64
BLOCKS = 16
SIMULATED = (2, 3)  # blocks and threads in the simulator, where a thread is a thread of Python


class RowInputs(NamedTuple):
    """What the rows begin with, tensors on the device. An array that all rows share has 1 in the
    place of B.

    starts: (B, n). begins, ends: (B,) float64. tried: (B,) int64, attempts before. times: (1 or B,
    T) float64, the start and the outputs of each row; lengths: (1 or B,) how many they are. stops,
    stop_counts: the same of the times at which steps end, and restarts of those at which the solve
    goes on. atol, lowest, floor: (1 or B, n) float64.
    targets: the numbers of each target of the field, (1 or B, k).
    """

    starts: Tensor
    begins: Tensor
    ends: Tensor
    tried: Tensor
    times: Tensor
    lengths: Tensor
    stops: Tensor
    restarts: Tensor
    stop_counts: Tensor
    atol: Tensor
    lowest: Tensor
    floor: Tensor
    targets: list[Tensor]


class RowResults:
    """The results of all rows, on the device.

    outputs: (T, B, n), NaN where a row did not arrive. slopes: the same, or None. last: (B, n). of:
    (B,) numbers of each row by the names of Run. record: the RowRecord, or None.
    """

    def __init__(self, batch: Batch, slopes: bool) -> None:
        self.batch = batch
        self.outputs: Tensor = batch.outputs
        self.slopes: Tensor | None = None
        if slopes:
            self.slopes = batch.slopes
        self.last: Tensor = batch.last

    def of(self, name: str) -> Tensor:
        if name in REALS:
            return self.batch.reals[REALS.index(name)]
        return self.batch.counts[COUNTS.index(name)]

    def on_host(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The COUNTS and the REALS of each row, (B,), by one copy."""
        batch = self.batch
        numbers = torch.cat((batch.counts, batch.reals.view(torch.int64))).cpu().numpy()
        counts = dict(zip(COUNTS, numbers, strict=False))
        reals = numbers[len(COUNTS) :].view(np.float64)
        return counts, dict(zip(REALS, reals, strict=True))


def solve_rows(
    plan: Prepared, field: Any, numbers: np.ndarray, given: RowInputs, record: bool
) -> RowResults:
    """Solve all rows.

    plan: the Prepared of the field and the method. numbers: (1,) RECORD, the settings of all rows.
    record: keep the starts of the steps. Then the kernel runs twice: it counts the steps of each
    row, and when the record has its room, it takes the same steps again.
    """
    if plan.device is None:
        plan.device = kernel_of(RowKernel, plan, field, functions_of(plan))
    kernel = plan.device
    order = _order(plan, given)
    batch = _batch(plan, given)
    _run(plan, kernel, numbers, given, batch, order, False)
    results = RowResults(batch, plan.slopes)
    accepted = results.of("accepted")
    plan.device_order = torch.argsort(accepted, descending=True, stable=True)
    if record:
        ends = torch.cumsum(accepted, 0)
        total = int(ends[-1])  # the only time at which the host waits
        batch = _with_record(batch, ends - accepted, total)
        _run(plan, kernel, numbers, given, batch, plan.device_order, True)
        results = RowResults(batch, plan.slopes)
    return results


def _order(plan, given):
    """The rows as the threads take them: by the steps that they took in the last solve of as many
    rows, the longest ones first."""
    before = plan.device_order
    starts = given.starts
    if before is not None and before.shape == starts.shape[:1] and before.device == starts.device:
        return before
    return torch.arange(len(starts), device=starts.device)


def _batch(plan, given):
    """The Batch without a record."""
    starts = given.starts
    count, size = starts.shape
    device = starts.device
    outputs = starts.new_full((given.times.shape[1], count, size), torch.nan)
    outputs[0] = starts
    slopes = starts.new_empty((1, 1, size))
    if plan.slopes:
        slopes = outputs.clone()
    float64 = {"dtype": torch.float64, "device": device}
    int64 = {"dtype": torch.int64, "device": device}
    return Batch(
        starts=starts,
        atol=given.atol,
        lowest=given.lowest,
        floor=given.floor,
        begins=given.begins,
        ends=given.ends,
        tried=given.tried,
        times=given.times,
        lengths=given.lengths,
        stops=given.stops,
        restarts=given.restarts,
        stop_counts=given.stop_counts,
        outputs=outputs,
        slopes=slopes,
        output_steps=torch.empty((1, 1), **int64),
        thetas=torch.empty((1, 1), **float64),
        offsets=torch.zeros(count, **int64),
        tape_t=torch.empty(1, **float64),
        tape_h=torch.empty(1, **float64),
        tape_y=starts.new_empty((1, size)),
        reals=torch.empty((len(REALS), count), **float64),
        counts=torch.full((len(COUNTS), count), RUNNING, **int64),
        last=torch.empty_like(starts),
    )


def _with_record(batch, offsets, total):
    """The Batch with room for so many steps, and for the places of the outputs in them."""
    marks = (len(offsets), batch.times.shape[1])
    return batch._replace(
        offsets=offsets,
        # A row ends its record where it likes: the loop would stop at the end of the array.
        tape_t=batch.tape_t.new_empty(total + 1),
        tape_h=batch.tape_h.new_empty(total + 1),
        tape_y=batch.tape_y.new_empty((total + 1, batch.tape_y.shape[1])),
        output_steps=batch.output_steps.new_full(marks, -1),
        thetas=batch.thetas.new_zeros(marks),
    )


def _run(plan, kernel, numbers, given, batch, order, record):
    """One pass of the kernel over all rows. record: write the record."""
    numbers = numbers.copy()
    run = numbers[0]
    f, *jacobian = functions_of(plan)
    run["f"] = kernel.numbers[f]
    if jacobian:
        run["jac"] = kernel.numbers[jacobian[0]]
    run["repair"] = 0  # no function: such a step is refused
    run["record"] = record
    settings, flags = split(numbers)
    device = order.device
    launch(
        kernel.launch,
        len(order),
        [
            *batch,
            to_device(settings, device),
            to_device(flags, device),
            torch.zeros(1, dtype=torch.int64, device=device),
            order,
            *(given.targets or [batch.starts]),
        ],
    )


def launch(kernel: Any, count: int, tensors: Sequence[Tensor]) -> None:
    """Run a kernel on tensors, which it reads or writes. count: the rows."""
    if simulated():
        arrays = [tensor.numpy() for tensor in tensors]
        kernel[SIMULATED](*arrays)
        return
    from numba import cuda
    from numba.cuda.core.errors import NumbaPerformanceWarning

    device = tensors[0].device
    with cuda.gpus[device.index]:
        most = BLOCKS * cuda.get_current_device().MULTIPROCESSOR_COUNT
        blocks = min(most, -(-count // THREADS))
        arrays = [cuda.as_cuda_array(tensor.detach()) for tensor in tensors]
        # On torch's stream, so that torch gives no memory away before the kernel has ended.
        number = torch.cuda.current_stream(device).cuda_stream
        stream = cuda.default_stream()
        if number:
            stream = cuda.external_stream(number)
        with warnings.catch_warnings():
            # A batch can be smaller than the GPU.
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            kernel[blocks, THREADS, stream](*arrays)
