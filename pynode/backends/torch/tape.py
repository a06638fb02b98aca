"""The graphs of the evaluations of f in an explicit solve, kept for its gradient as long as there
is memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.batched_evaluation import cached_answer
from ...core.evaluation import Evaluation

if TYPE_CHECKING:
    from ...core.vector_field import VectorField

# The fraction of the free memory at the start of a solve that graphs may take.
SHARE = 0.5
# The free bytes if the system does not report them.
UNKNOWN = 2e9


class Tape:
    """Evaluates f with a graph. limit: bytes that the graphs of accepted steps may take
    together."""

    def __init__(self, limit: float) -> None:
        self.left = limit
        self._size: Any = None
        self._latest: dict[int, Evaluation] = {}

    def evaluated(self, field: VectorField, t: float, y: Tensor) -> Tensor:
        """f(t, y), (n,), for t a float."""
        time = torch.scalar_tensor(t, dtype=field.dtype, device=field.device)
        if self.left <= 0:
            return field.eval(time, y)
        start = field.start
        if start is not None and start.graph is not None and start.is_at(t, y):
            evaluation = start.graph
            field.start = start._replace(graph=None)
        else:
            with torch.enable_grad():
                leaf = y.detach().requires_grad_()
                out = field.eval(time, leaf)
            evaluation = Evaluation(field.reuse.own(out.detach()), leaf, out)
        if self._size is None:
            self._size = cached_answer(
                field, "graph", lambda: graph_bytes(evaluation.out, field.parameters)
            )
        self._latest[id(evaluation.result)] = evaluation
        return evaluation.result

    def take(self, stages: Iterable[Tensor]) -> list[Evaluation] | None:
        """The Evaluations of an accepted step, in the order of its stages; None if some have no
        graph."""
        evaluations: list[Any] = [self._latest.get(id(k)) for k in stages]
        # The last stage of this step may be the first of the next one.
        self._latest = {
            id(evaluation.result): evaluation
            for evaluation in evaluations
            if evaluation is not None
        }
        if any(evaluation is None for evaluation in evaluations):
            return None
        self.left -= self._size * len(evaluations)
        return evaluations


def graph_bytes(out: Tensor, parameters: Iterable[Tensor]) -> int:
    """Bytes that the graph of out holds. Shared memory counts once, and the parameters do not
    count."""
    places = {p.data_ptr() for p in parameters}
    total = 0
    seen = set()
    todo = [out.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for x in _saved(node):
            if x.data_ptr() not in places:
                places.add(x.data_ptr())
                total += x.numel() * x.element_size()
        todo.extend(parent for parent, _ in node.next_functions)
    return total


def _saved(node: Any) -> Iterator[Tensor]:
    """The tensors that a node of a graph holds for its derivative."""
    saved = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
    saved.append(getattr(node, "saved_tensors", ()))
    for item in saved:
        for x in item if isinstance(item, (tuple, list)) else (item,):
            if isinstance(x, torch.Tensor) and x.layout is torch.strided:
                yield x


def free_bytes(device: torch.device) -> float:
    """Bytes that a process may still take on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [_meminfo(), _cgroup()]
    known = [x for x in free if x is not None]
    if known:
        return min(known)
    return UNKNOWN


def _meminfo() -> float | None:
    """The available memory on Linux; elsewhere the free pages. None if the system does not report
    them."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return 1024 * float(line.split()[1])
    except OSError:
        pass
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" not in names:
        return None
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _cgroup() -> float | None:
    """The memory that the limit of a container leaves; None without a limit."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            most = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            used = file.read().strip()
    except OSError:
        return None
    if most.isdigit():
        return float(most) - float(used)
    return None
