"""Whether Julia gets native functions of a field, or hooks that call Python."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from .refusals import missing_packages, owner

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.vector_field import VectorField
    from ..native.fields import BoundField
    from .algorithms import JuliaMethod
    from .functions import NativeFunctions

# Functions that cannot be translated, with the reason: 'auto' does not try them again.
_REFUSED: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def native_part(
    field: VectorField,
    method: JuliaMethod,
    t0: float,
    y0: Tensor,
    state: str,
    hooks: str,
    gradient: bool,
) -> tuple[BoundField | None, NativeFunctions | None]:
    """The field bound to its tensors and its native functions, or (None, None) for hooks.

    y0: (n,), the state at t0; state, hooks: of JuliaBackend; gradient: whether products of an
    adjoint are needed. Raises ValueError or TranslationRefused, with the reason, if hooks is
    'native' and there can be none.
    """
    if hooks == "python":
        return None, None
    reason = _obstacle(field, state) or _REFUSED.get(owner(field.f), "")
    if not reason:
        try:
            return _translated(field, method, t0, y0, gradient)
        # Translation differentiates f too, and what f does there can raise any exception.
        except Exception as error:
            if hooks == "native":
                raise
            _remember(field.f, str(error))
    elif hooks == "native":
        raise ValueError(
            f"Julia cannot get native functions of this field: {reason}; leave out hooks='native'"
        )
    return None, None


def _translated(field, method, t0, y0, gradient):
    from ..native.fields import native_field
    from .functions import native_functions

    # Recordings need autograd, and the solve may be in inference mode.
    with torch.inference_mode(False):
        bound = native_field(field, t0, y0.detach().clone())
    return bound, native_functions(bound, method, structure_name(field), gradient)


def structure_name(field: VectorField) -> str:
    """'dense', 'krylov', or 'sparse' for every structure with a pattern."""
    if field.structure is None:
        return "dense"
    if field.structure.name == "krylov":
        return "krylov"
    return "sparse"


def _obstacle(field, state):
    """Why a field cannot be translated, before it is tried; '' if it can."""
    missing = missing_packages()
    if missing:
        return missing
    if state != "cpu" or field.device.type != "cpu":
        return "native code runs on the CPU"
    if field.user_jac is not None:
        return "it has a jac of its own"
    if getattr(field, "parts", None) is not None:
        return "it is a SplitField"
    return ""


def _remember(f, reason):
    try:
        _REFUSED[owner(f)] = reason
    except TypeError:  # no weak reference to this f
        return
