"""Objects that a node of the graph stores for its backward pass. They live as long as the tensors
that the node saved.

An object on the ctx of an autograd.Function lives until PyTorch drops the whole graph. PyTorch
frees a saved tensor earlier: in the first backward pass that does not retain the graph. Under
torch.utils.checkpoint it frees the tensor at once and makes it again in the backward pass.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_numbers = itertools.count()
_holders: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_TOP = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # from torch 2.8 on


class _Holder(np.ndarray):
    """One number, and its object in ``stored``."""

    stored: object


def save(ctx: Any, stored: object, *tensors: Tensor) -> None:
    """ctx.save_for_backward(*tensors), and any object.

    A tensor represents the object. Its memory belongs to an array that holds the object. A hook on
    saved tensors may copy this tensor and lose the array. Only if the hooks are known not to do
    this, the array has the only reference.
    """
    number = next(_numbers)
    holder = np.array([number]).view(_Holder)
    holder.stored = stored
    _holders[number] = holder
    if _trusted():
        ctx.stored = None
    else:
        ctx.stored = stored
    ctx.save_for_backward(torch.from_numpy(holder), *tensors)


def saved(ctx: Any) -> tuple:
    """Return (the object, *tensors) that ``save`` stored. PyTorch raises RuntimeError if the graph
    has been freed."""
    token, *tensors = ctx.saved_tensors
    return _holders[int(token)].stored if ctx.stored is None else ctx.stored, *tensors


def _trusted() -> bool:
    """Whether saved tensors stay alive, or a new call of the node's forward makes them again."""
    if _TOP is None:
        return False
    hooks = _TOP(False)
    return hooks is None or hooks[0].__module__ == "torch.utils.checkpoint"


@contextmanager
def unhooked() -> Iterator[None]:
    """A block without hooks on saved tensors. The code inside must use up its graphs.

    Otherwise torch.utils.checkpoint would recompute everything before them for each of these
    tensors, and torch.func refuses hooks.
    """
    taken = []
    while _TOP is not None and (hooks := _TOP(False)) is not None:
        taken.append(hooks)
        torch._C._autograd._pop_saved_tensors_default_hooks()
    try:
        yield
    finally:
        for hooks in reversed(taken):
            torch._C._autograd._push_saved_tensors_default_hooks(*hooks)
