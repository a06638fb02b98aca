"""Test problems to reuse: six stiff ones of the literature and three that are not stiff.

    problem = get("robertson")                    # a Problem: field, y0, tspan, tolerances, source
    problem = get("pollution", dtype=torch.float32, device="cuda")

A problem is a module of this folder with a function of the same name. To add a problem, add its
file.
"""

import difflib
import pkgutil
import re
from collections.abc import Callable
from importlib import import_module

import torch

from pynode.problems.base import Field, Problem

__all__ = ["Field", "Problem", "get", "names"]


def _discover() -> dict[str, Callable[..., Problem]]:
    """The factories by name, from the modules that define a function of their own name."""
    modules = {
        info.name: import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
    }
    return {
        name: getattr(module, name)
        for name, module in sorted(modules.items())
        if hasattr(module, name)
    }


def _key(name: str) -> str:
    """The name without case, spaces and punctuation, so that "Lotka-Volterra" finds
    `lotka_volterra`."""
    return re.sub("[^a-z0-9]", "", name.lower())


_FACTORIES = _discover()
_NAMES = {_key(name): name for name in _FACTORIES}


def names() -> tuple[str, ...]:
    """Names of all problems, sorted."""
    return tuple(_FACTORIES)


def get(
    name: str, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Problem:
    """The problem of that name with a fresh field; case, spaces and punctuation in the name do not
    matter."""
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
    return _FACTORIES[_NAMES[key]](dtype=dtype, device=device)
