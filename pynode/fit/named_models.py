"""Modules, functions and reaction models, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .bound_model import NamedModel
from .function_model import FunctionModel
from .module_model import ModuleModel
from .reactions_model import ReactionsModel


def named_model(model: Any, conditions: Sequence[str] = ()) -> NamedModel:
    """The NamedModel of a module, a function f(t, y, k1, k2), or a model of ``pynode.models``.

    Raises TypeError for anything else, ValueError for a model without parameters.
    """
    if isinstance(model, NamedModel):
        return model
    if hasattr(model, "constants") and hasattr(model, "quantities"):
        return ReactionsModel(model)
    if isinstance(model, nn.Module):
        return ModuleModel(model)
    if callable(model) and not isinstance(model, type):
        return FunctionModel(model, conditions)
    raise TypeError(
        f"a model is an nn.Module, a function f(t, y, k1, k2) or a model of pynode.models, not"
        f" {type(model).__name__}"
    )
