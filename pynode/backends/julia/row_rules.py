"""Whether each row of a batch can be a solve of its own in Julia, or all rows are one system."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from .refusals import missing_packages, owner

if TYPE_CHECKING:
    from ...core.arguments import Arguments
    from ...core.problem import ODEProblem
    from .algorithms import JuliaMethod

# Functions whose rows cannot be separate, with the reason: 'auto' does not try them again.
_REFUSED: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
# Arguments of solve for which Julia would have to ask Python between the steps, or which belong to
# one system.
_WHOLE = ("events", "callback", "domain", "nonnegative", "dense", "jac", "mass")
# Adjoints, by name, in whose place NativeGauss goes back through the rows.
_GAUSS = ("GaussAdjoint", "NativeGauss")


class RowsRefused(ValueError):
    """Rows cannot be separate solves of Julia. The message says why."""

    def __init__(self, reason: object) -> None:
        super().__init__(
            f"Julia cannot solve each row of the batch by itself: {reason}; with hooks='auto' or"
            " 'python' all rows are one system"
        )


def obstacle(
    arguments: Arguments, problem: ODEProblem, method: JuliaMethod, adjoint: Any, backend: Any
) -> str:
    """Why the rows of a batch cannot be separate, before f is called; '' if they can.

    adjoint: a JuliaAdjoint. backend: a JuliaBackend.
    """
    if backend.hooks == "python":
        return "hooks='python' asks for f itself"
    asked = [name for name in _WHOLE if _is_given(getattr(arguments, name))]
    if problem.mass is not None:
        asked.append("mass")
    if problem.jac is not None:
        asked.append("jac")
    if asked:
        return f"it takes no {asked[0]}"
    reason = _unfit(method, adjoint)
    if reason:
        return reason
    t = problem.tspan
    if isinstance(t, torch.Tensor) and t.requires_grad and torch.is_grad_enabled():
        return "it has no gradient in t"
    if arguments.max_nfe is not None and _is_given(arguments.jumps):
        return "max_nfe would begin anew after each of the jumps"
    if backend.state != "cpu" or _device(problem) != "cpu":
        return "native code runs on the CPU"
    return missing_packages() or _REFUSED.get(owner(problem.f), "")


def _unfit(method, adjoint):
    """Why a method or an adjoint does not take rows; '' if both do."""
    if method.sundials:
        return f"{method.name} is code of Sundials, which solves one system at a time"
    if method.jacobian != "dense":
        return "rows have dense Jacobians, and jacobian says something else"
    if adjoint.name not in _GAUSS or adjoint.checkpoints:
        return f"only NativeGauss goes back through rows, not {adjoint.name}"
    return ""


def _is_given(value):
    """Whether an argument of solve is not its default."""
    if value is None or value is False:
        return False
    return not (isinstance(value, (tuple, list)) and not value)


def _device(problem):
    leaves = torch.utils._pytree.tree_leaves(problem.y0)
    devices = [leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return next((name for name in devices if name != "cpu"), "cpu")


def remember(f: Any, reason: str) -> None:
    """The rows of f cannot be separate, for this reason."""
    try:
        _REFUSED[owner(f)] = reason
    except TypeError:  # no weak reference to this f
        return
