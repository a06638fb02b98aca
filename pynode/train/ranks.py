"""Training on several processes: each solves some of the trajectories, and sums are exchanged.

torchrun --nproc-per-node 2 -m pynode train starts them. The gradient of the loss is a sum over
trajectories, and so are the normal equations of Levenberg-Marquardt, so all processes take the same
steps as one process would, to rounding. The first process writes the files.

An interruption ends every process on its own: none waits for another, which may be gone. The first
saves the last epoch that all of them completed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..core.memory import raise_if_exhausted

Item = TypeVar("Item")


class PeerLost(KeyboardInterrupt):
    """Another process of the run has ended, so that this one cannot go on."""


def launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def join() -> bool:
    """Join the processes that torchrun started, if it did. Returns whether this is the first, or
    the only one."""
    if not launched():
        return True
    import torch.distributed as distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return distributed.get_rank() == 0


def leave() -> None:
    """Leave the processes that ``join`` joined."""
    if launched():
        import torch.distributed as distributed

        distributed.destroy_process_group()


class Ranks:
    """The processes of a run: those of torch.distributed, if its group is initialised, or this one.

    rank: the number of this process. size: how many there are. What exchanges numbers raises
    PeerLost if another process has ended.
    """

    def __init__(self) -> None:
        self.rank = 0
        self.size = 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.rank = torch.distributed.get_rank()
            self.size = torch.distributed.get_world_size()

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def go_alone(self) -> None:
        """Exchange nothing from now on: the others may be gone."""
        self.size = 1

    def mine(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items that this process works on."""
        if self.size == 1:
            return items
        return items[self.rank :: self.size]

    def total(self, part: Tensor) -> Tensor:
        """The sum of the parts of all processes. Each must call it."""
        if self.size == 1:
            return part
        whole = part.detach().clone()
        _exchanged(torch.distributed.all_reduce, whole)
        return whole

    def any(self, condition: bool) -> bool:
        """Whether the condition holds in any process."""
        if self.size == 1:
            return condition
        return bool(self.total(torch.tensor(float(condition))) > 0)

    def agreed(self, value: float) -> float:
        """The value of the first process, for decisions that all must take alike."""
        if self.size == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64)
        _exchanged(torch.distributed.broadcast, told, 0)
        return float(told)

    def align(self, weights: Sequence[Tensor]) -> None:
        """Give all processes the weights of the first."""
        if self.size > 1:
            for weight in weights:
                _exchanged(torch.distributed.broadcast, weight.detach(), 0)

    def add_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replace the gradients by their sums over all processes."""
        if self.size == 1:
            return
        parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        whole = self.total(torch.cat([part.reshape(-1) for part in parts]))
        for weight, part in zip(weights, whole.split([w.numel() for w in weights]), strict=True):
            weight.grad = part.view_as(weight)

    def add_counts(self, record: dict[str, Any], names: Sequence[str]) -> None:
        """Replace the counts of these names by their sums over all processes."""
        if self.size == 1:
            return
        counts = self.total(torch.tensor([record[name] for name in names]))
        record.update(zip(names, counts.tolist(), strict=True))

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            _exchanged(torch.distributed.barrier)


def _exchanged(exchange: Callable[..., Any], *arguments: Any) -> None:
    """Call a collective operation. Raises PeerLost if another process does not take part."""
    try:
        exchange(*arguments)
    except RuntimeError as error:
        raise_if_exhausted(error)
        raise PeerLost("another process of the run has ended") from error
