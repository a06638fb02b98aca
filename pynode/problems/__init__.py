"""Test problems to reuse: six stiff ones of the literature and three that are not stiff.

    problem = get("robertson")                    # a Problem: field, y0, tspan, tolerances, source
    problem = get("pollution", dtype=torch.float32, device="cuda")

A problem is a module of this folder with a function of the same name. To add a problem, add its
file.
"""

from __future__ import annotations

import difflib
import pkgutil
import re
from importlib import import_module
from typing import TYPE_CHECKING

from ..core.lazy import lazily

if TYPE_CHECKING:
    import torch

    from .base import Field, Problem

__all__ = ["Field", "Problem", "get", "names"]

# The command line lists the problems in its help, for which it must not wait for torch.
__getattr__, __dir__ = lazily(__name__, {"base": ("Field", "Problem")})


def _key(name: str) -> str:
    """The name without case, spaces and punctuation, so that "Lotka-Volterra" finds
    `lotka_volterra`."""
    return re.sub("[^a-z0-9]", "", name.lower())


# What the modules of problems share.
_SHARED = ("base", "bilinear")
_MODULES = sorted(info.name for info in pkgutil.iter_modules(__path__))
_NAMES = {_key(name): name for name in _MODULES if name not in _SHARED}


def names() -> tuple[str, ...]:
    """Names of all problems, sorted."""
    return tuple(_NAMES.values())


def get(
    name: str, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Problem:
    """The problem of that name with a fresh field. Case, spaces and punctuation in the name do not
    matter. dtype None means float64."""
    key = _key(name)
    if key not in _NAMES:
        near = [_NAMES[match] for match in difflib.get_close_matches(key, _NAMES, n=3, cutoff=0.5)]
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        else:
            hint = f"choose one of {', '.join(names())}."
        raise ValueError(
            f"There is no problem named {name!r}: {hint} pynode.problems.names() lists them all."
        )
    found = _NAMES[key]
    make = getattr(import_module(f"{__name__}.{found}"), found)
    if dtype is None:
        return make(device=device)
    return make(dtype=dtype, device=device)
