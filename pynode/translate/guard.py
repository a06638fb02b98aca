"""Notices numbers that leave torch while f is recorded: NumPy, lists, raw memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import _has_any_global_hook

from .refusal import TranslationRefused, user_line

_EXITS = (
    "numpy __array__ tolist data_ptr __dlpack__ storage untyped_storage apply_ map_ map2_".split()
)
_STATE = threading.local()
_LOCK = threading.RLock()


@contextmanager
def guarded() -> Iterator[None]:
    """Refuse that this thread reads numbers of tensors outside torch's operations. Some operations
    run as others that native code has."""
    with _LOCK:
        replaced = {name: vars(Tensor).get(name) for name in (*_EXITS, "__getitem__")}
        for name in _EXITS:
            setattr(Tensor, name, _watched(name, getattr(Tensor, name)))
        setattr(Tensor, "__getitem__", _indexed(Tensor.__getitem__))  # noqa: B010
        called = Module._call_impl
        setattr(Module, "_call_impl", _checked_call(called))  # noqa: B010, mypy forbids to assign
        before = getattr(_STATE, "on", False)
        _STATE.on = True
        try:
            yield
        finally:
            _STATE.on = before
            setattr(Module, "_call_impl", called)  # noqa: B010
            for name, own in replaced.items():
                if own is None:
                    delattr(Tensor, name)
                else:
                    setattr(Tensor, name, own)


@contextmanager
def unguarded() -> Iterator[None]:
    """The recorder's own work may read numbers."""
    before = getattr(_STATE, "on", False)
    _STATE.on = False
    try:
        yield
    finally:
        _STATE.on = before


def _watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if getattr(_STATE, "on", False):
            raise TranslationRefused(
                f"f takes the numbers of a tensor out of torch (Tensor.{name}{user_line()}), as "
                "NumPy does. Native code would see them as constants: use torch's operations."
            )
        return original(self, *args, **kwargs)

    return method


def _indexed(original: Callable[..., Any]) -> Callable[..., Any]:
    """x[i] for a tensor i of one integer, which torch turns into a Python number: with i as a
    tensor of indices it means the same."""

    def method(self: Tensor, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        numbers = [part for part in parts if _is_number(part)]
        whole = all(_is_number(part) or part == slice(None) for part in parts)
        if getattr(_STATE, "on", False) and len(numbers) == 1 and whole:
            indices = [part if _is_number(part) else None for part in parts]
            return torch.ops.aten.index.Tensor(self, indices)
        return original(self, index)

    return method


def _is_number(x: Any) -> bool:
    return isinstance(x, Tensor) and x.ndim == 0 and x.dtype in (torch.int64, torch.int32)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Attention runs as products and a softmax, not as one operation. What torch has compiled runs
    as it was written."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _uncompiled():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _uncompiled() -> AbstractContextManager[None]:
    """torch's compiler, if it is there at all, leaves the functions alone that it has compiled."""
    set_stance = getattr(torch.compiler, "set_stance", None)
    if "torch._dynamo" not in sys.modules or set_stance is None:
        return nullcontext()
    return set_stance("force_eager")


def check_hooks(tensors: list[Tensor]) -> None:
    """Refuse hooks of computed tensors: they are code beside f that native code would leave out.

    torch calls the hooks of a leaf with its whole gradient, outside native code."""
    if any(x._backward_hooks for x in tensors if x.grad_fn is not None):
        raise _hooked("tensor")


def _checked_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """The call of a module, refused if the module has hooks."""

    def call(self: Module, *args: Any, **kwargs: Any) -> Any:
        if getattr(_STATE, "on", False):
            hooks = (self._forward_hooks, self._forward_pre_hooks, self._backward_hooks)
            if any(hooks) or self._backward_pre_hooks or _has_any_global_hook():
                raise _hooked(type(self).__name__)
        return original(self, *args, **kwargs)

    return call


def _hooked(what: str) -> TranslationRefused:
    return TranslationRefused(
        f"f has a hook, on a {what}. Native code cannot call hooks: remove it."
    )
