"""What a node of the graph keeps for its backward pass, for as long as PyTorch keeps the tensors
that the node has saved.

An object on the ctx of an autograd.Function lives until the whole graph is dropped. A saved tensor
goes earlier: with the first backward pass that does not retain the graph, and under
torch.utils.checkpoint at once, to be made again on the way back.
"""

from __future__ import annotations

import itertools
import weakref
from contextlib import contextmanager

import numpy as np
import torch

_numbers = itertools.count()
_holders: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_TOP = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # from torch 2.8 on


class _Holder(np.ndarray):
    """One number, and the object that it stands for in ``kept``."""


def save(ctx, kept, *tensors):
    """ctx.save_for_backward(*tensors), and with them any object.

    Its place is taken by a tensor whose memory belongs to an array that holds the object. Hooks on
    saved tensors may copy that tensor; only those that are known not to are trusted with the only
    reference.
    """
    number = next(_numbers)
    holder = np.array([number]).view(_Holder)
    holder.kept = kept
    _holders[number] = holder
    if _trusted():
        ctx.kept = None
    else:
        ctx.kept = kept
    ctx.save_for_backward(torch.from_numpy(holder), *tensors)


def saved(ctx):
    """(the object, *tensors) that ``save`` was given; RuntimeError of PyTorch's where the graph has
    been freed."""
    token, *tensors = ctx.saved_tensors
    return _holders[int(token)].kept if ctx.kept is None else ctx.kept, *tensors


def _trusted() -> bool:
    """Whether what is saved now stays, or is made again by calling the node's forward anew."""
    if _TOP is None:
        return False
    hooks = _TOP(False)
    return hooks is None or hooks[0].__module__ == "torch.utils.checkpoint"


@contextmanager
def unhooked():
    """A block whose graphs are used up within it, and whose tensors no hook around it gets to see.

    torch.utils.checkpoint would compute all that came before anew for every one of them, and
    torch.func refuses hooks.
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
