"""Contexts of torch around a solve: autocast, cached parametrizations, inference mode,
torch.compile, tracing and export.

A solve reads tensor values, keeps its dtype and is replayed in the backward pass, so it disables
these contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cache, wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch.nn.utils import parametrize

from .layout import Layout

if TYPE_CHECKING:
    from .problem import ODEProblem

P = ParamSpec("P")
R = TypeVar("R")

HALVES = (torch.float16, torch.bfloat16)


def check_solvable(dtype: torch.dtype, name: str, instead: str) -> None:
    """Raise TypeError for half precision, because torch solves no linear systems in it."""
    if dtype in HALVES:
        raise TypeError(
            f"{name} solves linear systems, which torch cannot do in {dtype}: pass y0.float() and a"
            f" module in float32, module.float(), {instead}"
        )


# Before 2.9 torch cannot disable the compiler for a function while it compiles another one. pynode
# then disables it at import, which takes a second.
_BEFOREHAND = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 9)


def compile_disabled(solve: Callable[P, R]) -> Callable[P, R]:
    """The function without torch.compile: the graph breaks there, and torch compiles nothing
    inside."""
    if _BEFOREHAND:
        return torch.compiler.disable(solve)

    @wraps(solve)
    def called(*arguments, **keywords):
        if torch.compiler.is_compiling():
            return torch.compiler.disable(solve)(*arguments, **keywords)
        return solve(*arguments, **keywords)

    return called


def disallow_tracing(solve: Callable[P, R]) -> Callable[P, R]:
    """The same. Raise NotImplementedError if torch traces or exports the function."""
    if _BEFOREHAND:
        solve = torch.compiler.disable(solve)

    @wraps(solve)
    def called(*arguments, **keywords):
        if torch.jit.is_tracing() or getattr(torch.compiler, "is_exporting", bool)():
            raise NotImplementedError(
                "torch cannot trace or export a solve, because its steps depend on tensor values:"
                " trace or export the vector field, torch.export.export(field, (t, y)), and solve"
                " around it"
            )
        # Not through compile_disabled: warnings count the frames to the caller.
        if torch.compiler.is_compiling():
            return torch.compiler.disable(solve)(*arguments, **keywords)
        return solve(*arguments, **keywords)

    return called


def needs_clean_context(problem: ODEProblem) -> bool:
    """Whether autocast, cached parametrizations, a mode without derivatives or another current
    device are active for the solve of an ODEProblem."""
    if _parametrize_caches() or _misleading():
        return True
    if isinstance(problem.y0, torch.Tensor):
        device = problem.y0.device
    else:
        device = Layout(problem.y0).device
    return _autocast(device.type) or not _is_current(device)


def run_clean(run: Callable[[ODEProblem], R], problem: ODEProblem) -> R:
    """run(problem) without these contexts. Tensors that autocast made half precision become
    float32, as in torch.amp.custom_fwd."""
    layout = Layout(problem.y0)
    if _autocast(layout.device.type):
        args = tuple(_raised(a) if isinstance(a, torch.Tensor) else a for a in problem.args)
        problem = replace(problem, y0=layout.unravel(_raised(layout.ravel(problem.y0))), args=args)
    with clean_context(layout.device):
        return run(problem)


@contextmanager
def clean_context(device: torch.device) -> Iterator[None]:
    """A block without autocast on this kind of device and without ``parametrize.cached``, in which
    f can differentiate. Of several GPUs the device is the current one."""
    with ExitStack() as stack:
        if _misleading():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        if _autocast(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(current_device(device))
        stack.enter_context(no_parametrize_cache())
        yield


def _misleading() -> bool:
    return torch.is_inference_mode_enabled() and not derives_in_inference()


@cache
def derives_in_inference() -> bool:
    """Whether torch.func is correct in inference mode. Up to torch 2.10 at least, all its
    derivatives are zero there."""
    with torch.inference_mode():
        x = torch.ones(())
        return bool(torch.func.vjp(torch.square, x)[1](x)[0] == 2)


def _autocast(device) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _is_current(device):
    """Whether device="cuda" means this device. f may make tensors so, or launch kernels of its own
    on the current device."""
    if device.type == "cpu" or device.index is None:
        return True
    module = torch.get_device_module(device)
    # A kind of which there is one, as on a Mac, has no current device.
    return not hasattr(module, "current_device") or module.current_device() == device.index


def current_device(device: torch.device) -> AbstractContextManager:
    """A context in which device="cuda" means this device."""
    if _is_current(device):
        return nullcontext()
    return torch.get_device_module(device).device(device.index)


def _raised(x):
    if x.dtype in HALVES:
        return x.float()
    return x


def _parametrize_caches() -> bool:
    return getattr(parametrize, "_cache_enabled", 0) > 0


@contextmanager
def no_parametrize_cache() -> Iterator[None]:
    """Context in which torch makes parametrized tensors on demand.

    A tensor in the cache of torch.nn.utils.parametrize.cached has the graph of its first user,
    which often has no graph.
    """
    if not _parametrize_caches():
        yield
        return
    depth = parametrize._cache_enabled
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        parametrize._cache_enabled = depth
