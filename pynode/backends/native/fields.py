"""The native functions of a vector field, translated once and kept with f."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ...core.leaves import tensors_in
from ...translate import NativeField, translate

if TYPE_CHECKING:
    from ...core.layout import Layout
    from ...core.vector_field import VectorField

_ATTRIBUTE = "_pynode_native"
_lock = threading.RLock()
# For an f that has no attributes of its own, such as a bound method.
_others: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class FlatField:
    """f(t, y, *args) of a flat y, (n,), as the translator records it.

    layout: of the user's state. mask: (n,) bool, the components that f sees as zero where they are
    negative, or None. rows: whether f takes rows of a batch; it then gets a batch of one row.
    """

    def __init__(self, f: Callable, layout: Layout, mask: Tensor | None, rows: bool) -> None:
        self.f = f
        self.layout = layout
        self.rows = rows
        # A mask of numbers, because the translator reads no bool from memory.
        self.positive: Tensor | None = None
        if mask is not None:
            self.positive = mask.to(layout.dtype)

    def __call__(self, t: Tensor, y: Tensor, *args: Any) -> Tensor:
        if self.positive is not None:
            y = torch.where(self.positive * y < 0, torch.zeros_like(y), y)
        if self.rows:
            return self._row(t, y, args)
        return self.layout.ravel(self.f(t, self.layout.unravel(y), *args))

    def _row(self, t, y, args):
        if self.layout.single:
            rank = len(self.layout.shapes[0])
        else:
            rank = 1
        clock = t.reshape((1,) * (1 + max(rank, 1)))
        out = self.f(clock, self.layout.unravel(y.unsqueeze(0)), *args)
        return self.layout.ravel_rows(out, 1).squeeze(0)


class BoundField:
    """A NativeField with the tensors of one solve.

    targets: the tensors that the native functions read, in their order. It has what
    backends/native/solve.py asks of a field.
    """

    def __init__(self, native: NativeField, targets: list[Tensor]) -> None:
        self.native = native
        self.targets = targets
        self.n = native.n
        self.dtype = native.dtype
        self.differentiable = native.differentiable
        self.function = native.function
        self.pattern = native.pattern
        # Aliases keep the numbers alive, even if a parameter gets other numbers.
        self._held = [x.detach() for x in targets]
        self._addresses = np.array([x.data_ptr() for x in self._held], dtype=np.int64)

    def pointers(self) -> tuple[np.ndarray, list[Tensor]]:
        """The addresses of the numbers of the targets, and what keeps them alive."""
        return self._addresses, self._held


class _Kept:
    """A NativeField, and from where its targets come.

    holds: what identifies the tensors of f (ModuleState.identity). places: for each target its
    position among the tensors in args; -1 for a tensor that f holds.
    """

    def __init__(self, native: NativeField, args: tuple, holds: tuple) -> None:
        self.native = native
        self.holds = holds
        positions = {id(x): i for i, x in enumerate(tensors_in(args))}
        self.places = [positions.get(id(x), -1) for x in native.targets]
        self.forms = [_form(x) for x in native.targets]

    def serves(self, holds: tuple) -> bool:
        """Whether f still holds the same tensors in the same form."""
        if holds != self.holds:
            return False
        return all(_form(x) == form for x, form in zip(self.native.targets, self.forms))

    def bound(self, args: tuple) -> BoundField:
        given = tensors_in(args)
        pairs = zip(self.places, self.native.targets, strict=True)
        return BoundField(self.native, [x if place < 0 else given[place] for place, x in pairs])


def _form(x):
    """What the code depends on of a tensor, apart from its numbers."""
    return x.shape, x.stride(), x.dtype


def native_field(field: VectorField, t0: float, y0: Tensor) -> BoundField:
    """The native functions of a VectorField at a state like y0, (n,), with its present tensors.

    Raise TranslationRefused, with a sentence, if f cannot become native code.
    """
    holds = field.module_state.identity()
    return bound_field(field.f, field.args, holds, field.layout, field.nonnegative_mask, t0, y0)


def bound_field(
    f: Callable,
    args: tuple,
    holds: tuple,
    layout: Layout,
    mask: Tensor | None,
    t0: float,
    y0: Tensor,
    rows: bool = False,
) -> BoundField:
    """The same for a function, its arguments, and the layout of its state. holds: what identifies
    the tensors of f. rows: whether f takes rows of a batch, and args are those of one row."""
    leaves, structure = pytree.tree_flatten(args)
    marks = tuple(_mark(x) for x in leaves)
    masked = None
    if mask is not None:
        masked = tuple(mask.tolist())
    owner = getattr(f, "__self__", f)
    function = getattr(f, "__func__", None)
    key = (function, layout.key, layout.dtype, masked, rows, structure, marks)
    with _lock:
        cache = _cache_of(owner)
        kept = cache.get(key)
        if kept is None or not kept.serves(holds):
            flat = FlatField(f, layout, mask, rows)
            kept = _Kept(translate(flat, y0, t0, args), args, holds)
            cache[key] = kept
    return kept.bound(args)


def _mark(x):
    """What the code depends on of an argument: the form of a tensor, or the value of another
    object."""
    if isinstance(x, torch.Tensor):
        return _form(x)
    if isinstance(x, (int, float, str, bool, type(None))):
        return x
    return id(x)


def _cache_of(f):
    """The dict of what is kept with f."""
    own = getattr(f, "__dict__", None)
    if own is None:
        return _others.setdefault(f, {})
    cache = own.get(_ATTRIBUTE)
    if cache is None or cache.owner() is not f:
        cache = _Cache(f)
        own[_ATTRIBUTE] = cache
    return cache


class _Cache(dict):
    """What is kept with one f. A copy of f has other tensors, and starts with an empty cache."""

    _pynode_own = True  # its tensors are not tensors of f (core/leaves.py)

    def __init__(self, owner: Callable | None = None) -> None:
        super().__init__()
        self.owner: Callable = _nothing
        if owner is not None:
            self.owner = weakref.ref(owner)

    def __deepcopy__(self, memo: Any) -> _Cache:
        return _Cache()

    def __reduce__(self) -> tuple:
        return _Cache, ()


def _nothing() -> None:
    return None
