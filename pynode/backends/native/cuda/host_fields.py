"""A field on a GPU for the translator, which runs on the CPU: copies of its tensors, and the way
back from the copies to the tensors whose numbers the kernel reads."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ....translate import TranslationRefused
from ....translate.key import Walk
from ..fields import BoundField, FlatCall, translated
from ..row_fields import owned_leaves

if TYPE_CHECKING:
    from ....core.batched_field import RowField

INSTEAD = (
    "On a GPU, f is translated with copies of its tensors on the CPU: make f a module that owns its"
    " tensors as parameters or buffers, or pass them through args."
)


class DeviceRowFields:
    """The native functions of a RowField, and the tensors on its device that they read.

    bound: of the copies, on the CPU. targets: the tensors on the device, whole, in the order of
    bound.targets. by_row: for each of them whether a row of the batch reads its own row of it.
    """

    def __init__(self, field: RowField, t0: float, y0: Tensor) -> None:
        leaves, structure = pytree.tree_flatten(field.args)
        owned = owned_leaves(field)
        hosts = [
            _on_host(x[:1] if own else x) if isinstance(x, Tensor) else x
            for x, own in zip(leaves, owned, strict=True)
        ]
        mask = field.nonnegative_mask
        if mask is not None:
            mask = mask.cpu()
        frame = FlatCall(field.layout, structure, mask, rows=True)
        f, originals = host_copy(field.f)
        self.bound: BoundField = _translated(f, hosts, frame, t0, y0.detach().cpu())
        known = {id(host): (x, own) for x, host, own in zip(leaves, hosts, owned, strict=True)}
        known.update((id(host), (x, False)) for host, x in originals)
        self.targets: list[Tensor] = []
        self.by_row: list[bool] = []
        for target in self.bound.targets:
            x, own = known.get(id(target), (target, False))
            self.targets.append(x)
            self.by_row.append(own)

    def numbers(self, index: Tensor) -> list[Tensor]:
        """The numbers of the targets as native code finds them in memory: (m, k) for the rows with
        these numbers, (m,), or (1, k) for all rows."""
        found = []
        for x, host, own in zip(self.targets, self.bound.targets, self.by_row, strict=True):
            x = x.detach()
            if own:
                found.append(x[index].reshape(len(index), -1).contiguous())
            else:
                found.append(_as_in_memory(x, host).reshape(1, -1))
        return found


def _translated(f, hosts, frame, t0, y0):
    try:
        return translated(f, hosts, frame, t0, y0)
    except TranslationRefused as refusal:
        if "uses a tensor on" in str(refusal):
            raise TranslationRefused(f"{refusal} {INSTEAD}") from None
        raise


def _on_host(x: Tensor) -> Tensor:
    """A contiguous copy on the CPU, without a graph."""
    return x.detach().cpu().contiguous().clone().requires_grad_(x.requires_grad)


def _as_in_memory(x: Tensor, host: Tensor) -> Tensor:
    """The numbers of x in the order of the memory of its copy."""
    if host.is_contiguous():
        return x.contiguous()
    extent = 1 + sum((size - 1) * step for size, step in zip(host.shape, host.stride()))
    memory = x.new_zeros(extent)
    memory.as_strided(host.shape, host.stride()).copy_(x)
    return memory


# For each module: the watch of its walk, its copy, and the pairs of tensors.
_COPIES: weakref.WeakKeyDictionary[nn.Module, tuple[Any, nn.Module, list]]
_COPIES = weakref.WeakKeyDictionary()


def host_copy(f: Callable) -> tuple[Callable, list[tuple[Tensor, Tensor]]]:
    """(f on the CPU, pairs of its tensors: the copy and the original). An f that is no module, or
    is on the CPU, is itself.

    The copy of a module is kept as long as nothing has changed in it but the numbers of its
    tensors. Those that can be constants of the code (translate/tables.py) are copied anew.
    """
    if not isinstance(f, nn.Module) or all(x.device.type == "cpu" for x in _tensors(f)):
        return f, []
    known = _COPIES.get(f)
    if known is not None and known[0].holds():
        _, host, pairs = known
        with torch.no_grad():
            for place, x in pairs:
                if not isinstance(x, nn.Parameter) and not x.requires_grad:
                    place.copy_(x.detach().cpu())
        return host, pairs
    memo: dict[int, Any] = {}
    pairs = []
    for x in _tensors(f):
        if id(x) not in memo:
            place = _on_host(x)
            if isinstance(x, nn.Parameter):
                place = nn.Parameter(place.detach(), x.requires_grad)
            memo[id(x)] = place
            pairs.append((place, x))
    walk = Walk([f])
    # copy.deepcopy takes the copies in memo for those that it has made.
    host = copy.deepcopy(f, memo)
    if walk.certain:
        _COPIES[f] = (walk.watch, host, pairs)
    return host, pairs


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
