"""Operations that only move numbers: torch moves their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..graph import Reduce, View, at_places
from .call import Call, rule

_MOVES = """flip roll repeat take embedding tril triu diag_embed
select_backward slice_backward diagonal_backward select_scatter slice_scatter diagonal_scatter
as_strided_scatter permute_copy transpose_copy t_copy unsqueeze_copy squeeze_copy select_copy
slice_copy diagonal_copy split_copy unbind_copy as_strided_copy unfold_copy _reshape_copy
trace_copy channel_shuffle pixel_shuffle pixel_unshuffle narrow_copy repeat_interleave""".split()


def move(call: Call) -> None:
    """An operation that only moves numbers: torch moves their places."""
    sources: list[View] = []
    starts: list[int] = []
    total = 1  # place 0 is a number that the operation puts in: zero

    def numbered(x: Any) -> Any:
        nonlocal total
        if isinstance(x, Tensor):
            view = call.views[id(x)]
            if _is_index(call, x):
                return call.integers(x)
            starts.append(total)
            sources.append(view)
            places = torch.arange(total, total + view.size).reshape(view.shape)
            total += view.size
            return places
        if isinstance(x, (list, tuple)):
            return type(x)(numbered(item) for item in x)
        return x

    arguments = {name: numbered(x) for name, x in call.bound.items()}
    function = getattr(torch.ops.aten, call.name)
    moved = _run(function, call, arguments)
    _write_moved(call, call.out, moved.numpy(), sources, starts)


def _is_index(call: Call, x: Tensor) -> bool:
    """Whether an integer tensor is an argument that says where, not what."""
    names = ("index", "indices")
    for name in names:
        value = call.get(name)
        if value is x:
            return True
        if isinstance(value, (list, tuple)) and any(item is x for item in value):
            return True
    return False


def _run(function: Any, call: Call, arguments: dict[str, Any]) -> Tensor:
    """The operation on places, with the overload whose schema has these arguments."""
    for overload in function.overloads():
        operation = getattr(function, overload)
        schema = operation._schema
        if [a.name for a in schema.arguments] != list(call.bound):
            continue
        positional = [arguments[a.name] for a in schema.arguments if not a.kwarg_only]
        keywords = {a.name: arguments[a.name] for a in schema.arguments if a.kwarg_only}
        try:
            return operation(*positional, **keywords)
        except (RuntimeError, TypeError):
            continue
    raise call.refuse("with these arguments")


def _write_moved(
    call: Call, out: View, moved: np.ndarray, sources: list[View], starts: list[int]
) -> None:
    """out[i] = the number at place moved[i] of the sources laid one after the other from 1 on."""
    ends = [start + view.size for start, view in zip(starts, sources)]
    covered = [(moved >= start) & (moved < end) for start, end in zip(starts, ends)]
    if not any(mask.all() for mask in covered):
        call.fill(out, 0.0)
    targets = out.places()
    for mask, start, view in zip(covered, starts, sources):
        if not mask.any():
            continue
        places = view.places().reshape(-1)
        if mask.all():
            source = at_places(view.buffer, places[moved - start])
            call.copy(out, source)
            continue
        block = _block(mask)
        chosen = moved[block] if block is not None else moved[mask]
        written = targets[block] if block is not None else targets[mask]
        source = at_places(view.buffer, places[chosen - start])
        call.copy(at_places(out.buffer, written), source)


def _block(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The slices of a mask that is true in one rectangular block, else None."""
    slices = []
    size = 1
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others) if others else mask)
        slices.append(slice(int(hit[0]), int(hit[-1]) + 1))
        size *= int(hit[-1]) + 1 - int(hit[0])
    if size != int(mask.sum()):
        return None
    return tuple(slices)


rule(*_MOVES)(move)


@rule("cat")
def _cat(call: Call) -> None:
    parts = [x for x in call["tensors"] if x.numel()]
    axis = call["dim"] % len(call.out.shape)
    start = 0
    for x in parts:
        source = call.view(x)
        length = source.shape[axis]
        call.copy(call.out.narrow(axis, start, length), source)
        start += length


@rule("stack")
def _stack(call: Call) -> None:
    axis = call["dim"] % len(call.out.shape)
    for place, x in enumerate(call["tensors"]):
        call.copy(call.out.narrow(axis, place, 1).drop(axis), call.view(x))


@rule("constant_pad_nd")
def _pad(call: Call) -> None:
    source = call.view("self")
    value = float(call["value"])
    places = torch.arange(1, 1 + source.size).reshape(source.shape)
    moved = torch.ops.aten.constant_pad_nd(places, call["pad"], 0).numpy()
    call.fill(call.out, value)
    targets = call.out.places()[moved > 0]
    chosen = source.places().reshape(-1)[moved[moved > 0] - 1]
    call.copy(at_places(call.out.buffer, targets), at_places(source.buffer, chosen))


@rule("trace")
def _trace(call: Call) -> None:
    source = call.view("self")
    length = min(source.shape)
    places = np.diagonal(source.places())[:length]
    call.statements.append(Reduce(call.out, at_places(source.buffer, places), "sum"))
