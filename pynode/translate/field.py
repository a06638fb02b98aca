"""translate, and the NativeField that it returns."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .field_code import REAL_TYPES, FieldCode, Frame, NativeFunction
from .key import Walk
from .refusal import TranslationRefused


class NativeField:
    """The native functions of f for states of one size and type.

    n: the size of the state. dtype: its type. targets: the tensors that native code reads through
    pointers: parameters, buffers, args and other tensors from outside. differentiable: the places
    in targets of those that have gradients.
    """

    def __init__(self, f: Callable[..., Any], code: FieldCode, args: Sequence[Any]) -> None:
        self._f = f  # code needs it, and keeps a weak reference
        self._code = code
        places = {id(x): i for i, x in enumerate(code.args) if isinstance(x, Tensor)}
        self.targets: list[Tensor] = [
            args[places[id(x)]] if id(x) in places else x for x in code.targets
        ]
        self._args = tuple(args)
        self.n = code.n
        self.dtype: torch.dtype = code.dtype
        self.differentiable = list(range(len(self.targets)))

    def pointers(self) -> tuple[np.ndarray, list[Tensor]]:
        """The addresses of the targets' numbers now, int64, and what keeps them alive."""
        held = list(self.targets)
        return np.array([x.data_ptr() for x in held], dtype=np.int64), held

    @property
    def kept(self) -> dict[Any, Any]:
        """What others keep with the code, as long as it exists."""
        return self._code.kept

    def function(self, name: str) -> NativeFunction:
        """A native function: from this process, from the disk, or compiled now and compared."""
        return self._code.function(name)

    def pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the structural nonzeros of df/dy, int64, in row-major order."""
        return self._code.pattern()

    def text(self, name: str) -> str:
        """A function in LLVM's language, before it is optimised."""
        return self._code.text(name)

    def python_source(self, name: str) -> str:
        """A function as Python source: name(t, y, v, input0, input1, ..., out, work).

        It uses numbers and flat arrays alone, so that numba compiles it. Raise TranslationRefused
        if the function is so large that it exists as loops only.
        """
        return self._code.python_source(name)

    def has_args(self, args: Sequence[Any]) -> bool:
        """Whether these are the args of the targets."""
        return len(args) == len(self._args) and all(a is b for a, b in zip(args, self._args))


# The code of functions that still exist: for each f by the state's size and type and the args.
_CODES: weakref.WeakKeyDictionary[Any, dict[Any, tuple[FieldCode, Any]]]
_CODES = weakref.WeakKeyDictionary()
_CODES_LOCK = threading.Lock()
# Codes of one f at most: with a Python number among the args, every number has its own.
_MOST = 16


def translate(
    f: Callable[..., Any],
    y0: Tensor,
    t0: float,
    args: Sequence[Any] = (),
    frame: Frame | None = None,
) -> NativeField:
    """The native functions of f(t, y, *args) for states like y0, (n,), near the time t0.

    frame: calls f where its state is not flat: native code is then frame(f, t, y, *args). The same
    f with nothing changed gives the same NativeField again, and with other tensors in
    args the same native functions. Raise TranslationRefused, with a sentence, if f cannot become
    native code.
    """
    field = translated_before(f, y0, args, frame)
    if field is not None:
        return field
    # The recording must not see what the args were computed from: f could use that as well.
    cut = [x.detach() if isinstance(x, Tensor) else x for x in args]
    code = _new_code(f, y0, t0, cut, frame)
    field = NativeField(f, code, args)
    owner, key = _place(f, y0, args, frame)
    try:
        return _remember(owner, key, field, code)
    except TypeError:  # no weak reference to this f
        return field


def translated_before(
    f: Callable[..., Any],
    y0: Tensor,
    args: Sequence[Any] = (),
    frame: Frame | None = None,
) -> NativeField | None:
    """What ``translate`` has returned for the same f with nothing changed, with these args; None if
    there is nothing."""
    owner, key = _place(f, y0, args, frame)
    try:
        codes = _CODES.get(owner)
    except TypeError:  # no weak reference to this f
        return None
    if codes is None or key not in codes:
        return None
    code, reference = codes[key]
    if not (code.watch.holds() and (code.certain or code.agrees(f, args))):
        return None
    known = reference()
    if known is not None and known.has_args(args):
        return known
    return _remember(owner, key, NativeField(f, code, args), code)


def _place(f, y0, args, frame):
    """(the object with which the code of f is kept, the key of the code there)."""
    owner = f
    if hasattr(f, "__func__"):
        owner = getattr(f, "__self__", f)
    form = (y0.numel(), y0.dtype, frame and frame.key)
    return owner, (getattr(f, "__func__", None), form, *map(_argument_key, args))


def _remember(owner: Any, key: Any, field: NativeField, code: FieldCode) -> NativeField:
    with _CODES_LOCK:
        codes = _CODES.setdefault(owner, {})
        codes[key] = (code, weakref.ref(field))
        while len(codes) > _MOST:
            del codes[next(iter(codes))]
    return field


def _new_code(
    f: Callable[..., Any], y0: Tensor, t0: float, args: Sequence[Any], frame: Frame | None
) -> FieldCode:
    _check_state(y0)
    with torch.inference_mode(False):  # recordings need autograd
        walk = Walk([f, tuple(args), frame and frame.key], args)
        code = FieldCode(f, y0, t0, args, walk, frame)
        if code.agrees(f, args):
            return code
        # The code on the disk belongs to another f, which the walk cannot tell from this one.
        walk = Walk([f, tuple(args), frame and frame.key], args)
        code = FieldCode(f, y0, t0, args, walk, frame, stored=False)
        if code.agrees(f, args):
            return code
    raise TranslationRefused(
        "f gives other numbers when it is called without gradients than when it was recorded: it "
        "asks torch or a tensor whether gradients are computed, or depends on something that "
        "changes. Make f a function of t, y and its tensors."
    )


def _argument_key(x: Any) -> Any:
    """Equal for arguments that the same native code takes."""
    if isinstance(x, Tensor) and x.dtype.is_floating_point:
        return (x.shape, x.stride(), x.dtype)
    if isinstance(x, (int, float, str, bool, type(None))):
        return (type(x), x)
    return id(x)


def _check_state(y0: Tensor) -> None:
    if y0.dtype not in REAL_TYPES:
        raise TranslationRefused(
            f"The state has type {y0.dtype}. Native code needs float64 or float32."
        )
    if y0.device.type != "cpu":
        raise TranslationRefused(f"The state is on {y0.device}. Native code runs on the CPU.")
    if y0.ndim != 1:
        raise TranslationRefused(f"The state must be flat, (n,), but is {tuple(y0.shape)}.")
