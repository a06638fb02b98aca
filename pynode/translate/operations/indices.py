"""Reading and writing at indices, known ones and those that depend on the state."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..graph import (
    BOOL,
    REAL,
    Constant,
    Pick,
    Put,
    Reduce,
    ScatterAdd,
    Search,
    View,
    at_places,
)
from .call import Call, rule
from .moves import move

# Places among which native code chooses for an index that depends on the state.
_MOST_CHOICES = 256


def _numbered(view: View) -> Tensor:
    return torch.arange(view.size).reshape(view.shape)


def _add_at(call: Call, out: View, chosen: np.ndarray, source: View) -> None:
    """out[chosen] += source; chosen are places in row-major order of out."""
    places = out.places().reshape(-1)[chosen]
    source = source.expand(chosen.shape)
    call.statements.append(ScatterAdd(at_places(out.buffer, places), source))


@rule("bucketize", "searchsorted")
def _sorted_place(call: Call) -> None:
    """The number of boundaries before a value. As in torch, NaN comes after all of them."""
    found = call.operand("self")
    if call.name == "bucketize":
        boundaries = call.view("boundaries")
    else:
        boundaries = call.view("sorted_sequence")
        if call.get("sorter") is not None:
            raise call.refuse("with a sorter")
    right = bool(call["right"] or call.get("side") == "right")
    one = boundaries.positions is None and 0 < boundaries.size == boundaries.shape[-1]
    if isinstance(found, View) and one:
        for axis in reversed(range(len(boundaries.shape) - 1)):
            boundaries = boundaries.drop(axis)
        count = call.fresh(call.out.shape)
        call.statements.append(Search(count, found.expand(count.shape), boundaries, right))
        call.copy(call.out, count)
        return
    axis = len(call.out.shape)
    if isinstance(found, View):
        found = found.insert(axis)
    if len(boundaries.shape) > 1:
        boundaries = boundaries.insert(len(boundaries.shape) - 1)
    before = call.made("lt" if right else "le", found, boundaries)
    after = call.made("to_real", call.made("logical_not", before))
    count = call.fresh(call.out.shape)
    call.statements.append(Reduce(count, after, "sum"))
    call.copy(call.out, count)


def _unknown(call: Call) -> tuple[int, View] | None:
    """(axis, the index there) if the one index of an operation depends on the state; None if all
    are known."""
    if "dim" in call.bound:
        indices = [call["index"]]
        axis = call["dim"] % max(len(call.view("self").shape), 1)
    else:
        indices = call["indices"]
        axis = next((k for k, index in enumerate(indices) if index is not None), 0)
    given = [index for index in indices if index is not None]
    if all(call.view(index).buffer in call.constant for index in given):
        return None
    if len(given) > 1 or call.view(given[0]).buffer.kind == BOOL:
        raise call.refuse("with a mask, or with several indices that depend on the state")
    index = call.view(given[0])
    extent = float(call.view("self").shape[axis])
    negative = call.made("lt", index, 0.0)
    return axis, call.made("where", negative, call.made("add", index, extent), index)


def _within(index: View, axis: int, rank: int) -> View:
    """An index with an axis before it for each of the first axes, and behind it up to rank."""
    for _ in range(axis):
        index = index.insert(0)
    while len(index.shape) < rank:
        index = index.insert(len(index.shape))
    return index


@rule("index_select", "index")
def _index(call: Call) -> None:
    unknown = _unknown(call)
    if unknown is None:
        move(call)
        return
    axis, index = unknown
    source = call.view("self")
    places = _within(index, axis, len(call.out.shape))
    if source.positions is None and source.size:
        _pick(call, source, axis, _behind(source, axis, len(index.shape)), places)
        return
    # No place: torch raises an error, and native code must not go on with a number.
    call.fill(call.out, math.nan if source.buffer.kind == REAL else 0.0)
    for place in _choices(call, source.shape[axis]):
        element = source.narrow(axis, place, 1).drop(axis)
        for _ in index.shape:
            element = element.insert(axis)
        call.map(call.out, "select_place", places, float(place), element, call.out)


def _behind(view: View, axis: int, count: int) -> View:
    """The first element of an axis, with ``count`` axes in its place."""
    view = view.narrow(axis, 0, 1).drop(axis)
    for _ in range(count):
        view = view.insert(axis)
    return view


def _pick(call: Call, source: View, axis: int, first: View, places: View) -> None:
    """out = the elements of source at places of an axis. first: those at place 0."""
    out = call.out
    # No place: torch raises an error, and native code must not go on with a number.
    outside = math.nan if source.buffer.kind == REAL else 0.0
    step = source.strides[axis]
    extent = source.shape[axis]
    target = out
    if out.buffer is source.buffer or out.buffer.kind == BOOL:
        target = call.fresh(out.shape)
    statement = Pick(
        target, first.expand(out.shape), places.expand(out.shape), step, extent, outside
    )
    call.statements.append(statement)
    if target is not out:
        call.copy(out, target)


def _add_unknown(call: Call, axis: int, index: View, source: View) -> None:
    """out[..., index, ...] += source, for an index that depends on the state."""
    out = call.out
    shape = (*out.shape[:axis], *index.shape, *out.shape[axis + 1 :])
    source = source.expand(shape)
    if out.positions is None:
        first = _behind(out, axis, len(index.shape)).expand(shape)
        places = _within(index, axis, len(shape)).expand(shape)
        statement = Put(first, source, places, out.strides[axis], out.shape[axis])
        call.statements.append(statement)
        return
    numbers = call.fresh((out.shape[axis],))
    call.statements.append(Constant(numbers, np.arange(out.shape[axis], dtype=float)))
    numbers = _within(numbers, axis, len(out.shape))
    _choices(call, index.size)
    for place in np.ndindex(*index.shape):
        here = index
        element = source
        for k in reversed(range(len(place))):
            here = here.narrow(k, place[k], 1).drop(k)
            element = element.narrow(axis + k, place[k], 1).drop(axis + k)
        new = call.made("add", out, element.insert(axis).expand(out.shape))
        call.map(out, "select_place", _within(here, 0, len(out.shape)), numbers, new, out)


@rule("index_put", "_unsafe_index_put", "_index_put_impl")
def _index_put(call: Call) -> None:
    out = call.out
    source = call.view("self")
    if out.buffer is not source.buffer:
        call.copy(out, source)
    if call["accumulate"]:
        unknown = _unknown(call)
        if unknown is not None:
            _add_unknown(call, *unknown, call.view("values"))
            return
    indices = [None if i is None else call.integers(i) for i in call["indices"]]
    chosen = torch.ops.aten.index(_numbered(out), indices).numpy()
    values = call.view("values")
    if call["accumulate"]:
        _add_at(call, out, chosen, values)
        return
    places = out.places().reshape(-1)[chosen]
    call.copy(at_places(out.buffer, places), values.expand(chosen.shape))


@rule("index_add")
def _index_add(call: Call) -> None:
    out = call.out
    if out.buffer is not call.view("self").buffer:
        call.copy(out, call.view("self"))
    source = call.view("source")
    if float(call["alpha"]) != 1.0:
        source = call.made("mul", source, float(call["alpha"]))
    unknown = _unknown(call)
    if unknown is not None:
        _add_unknown(call, *unknown, source)
        return
    index = call.integers(call["index"])
    chosen = torch.ops.aten.index_select(_numbered(out), call["dim"], index).numpy()
    _add_at(call, out, chosen, source)


@rule("put")
def _put(call: Call) -> None:
    out = call.out
    if out.buffer is not call.view("self").buffer:
        call.copy(out, call.view("self"))
    chosen = call.integers(call["index"]).numpy() % out.size
    source = call.view("source")
    if call["accumulate"]:
        _add_at(call, out, chosen, source)
        return
    call.copy(at_places(out.buffer, out.places().reshape(-1)[chosen]), source)


@rule("index_fill")
def _index_fill(call: Call) -> None:
    out = call.out
    if out.buffer is not call.view("self").buffer:
        call.copy(out, call.view("self"))
    index = call.integers(call["index"])
    chosen = torch.ops.aten.index_select(_numbered(out), call["dim"], index).numpy()
    places = at_places(out.buffer, out.places().reshape(-1)[chosen])
    value = call.operand("value")
    if isinstance(value, View):
        call.copy(places, value.expand(places.shape))
    else:
        call.fill(places, value)


@rule("index_copy")
def _index_copy(call: Call) -> None:
    out = call.out
    if out.buffer is not call.view("self").buffer:
        call.copy(out, call.view("self"))
    index = call.integers(call["index"])
    chosen = torch.ops.aten.index_select(_numbered(out), call["dim"], index).numpy()
    places = out.places().reshape(-1)[chosen]
    call.copy(at_places(out.buffer, places), call.view("source"))


def _choices(call: Call, extent: int) -> range:
    """The places that an index can mean that depends on the state."""
    if extent > _MOST_CHOICES:
        raise call.refuse("with indices that depend on the state")
    return range(extent)


@rule("gather")
def _gather(call: Call) -> None:
    index: Tensor = call["index"]
    if call.view(index).buffer in call.constant:
        move(call)
        return
    source = call.view("self")
    if not source.shape:
        call.copy(call.out, source)
        return
    axis = call["dim"] % len(source.shape)
    for other, extent in enumerate(index.shape):
        if other != axis:
            source = source.narrow(other, 0, extent)
    if source.positions is None and source.size:
        _pick(call, source, axis, source.narrow(axis, 0, 1), call.view(index))
        return
    call.fill(call.out, 0.0)
    for place in _choices(call, source.shape[axis]):
        element = source.narrow(axis, place, 1)
        call.map(call.out, "select_place", call.view(index), float(place), element, call.out)


@rule("scatter_add")
def _scatter_add(call: Call) -> None:
    out = call.out
    if out.buffer is not call.view("self").buffer:
        call.copy(out, call.view("self"))
    index: Tensor = call["index"]
    if call.view(index).buffer not in call.constant:
        _choose(call, index, call.view("src"), add=True)
        return
    chosen = torch.ops.aten.gather(_numbered(out), call["dim"], index).numpy()
    source = call.view("src")
    for axis, extent in enumerate(index.shape):
        source = source.narrow(axis, 0, extent)
    _add_at(call, out, chosen, source)


@rule("scatter")
def _scatter(call: Call) -> None:
    out = call.out
    if out.buffer is not call.view("self").buffer:
        call.copy(out, call.view("self"))
    index: Tensor = call["index"]
    axis = call["dim"] % max(len(out.shape), 1)
    if "reduce" in call.bound:
        raise call.refuse("with a reduction")
    source = call.operand("src" if "src" in call.bound else "value")
    if call.view(index).buffer not in call.constant:
        _choose(call, index, source, add=False)
        return
    chosen = torch.ops.aten.gather(_numbered(out), axis, index).numpy()
    places = at_places(out.buffer, out.places().reshape(-1)[chosen])
    if isinstance(source, View):
        for a, extent in enumerate(index.shape):
            source = source.narrow(a, 0, extent)
        call.copy(places, source)
    else:
        call.fill(places, source)


def _choose(call: Call, index: Tensor, source: View | float, add: bool) -> None:
    """Write (or add) each element of source where its index says, for unknown indices."""
    out = call.out
    places = call.view(index)
    if not out.shape:
        call.map(out, "add" if add else "copy", *([out] if add else []), source)
        return
    axis = call["dim"] % len(out.shape)
    if add and isinstance(source, View) and out.positions is None and index.numel():
        first = out
        for other, extent in enumerate(index.shape):
            source = source.narrow(other, 0, extent)
            first = first.narrow(other, 0, 1 if other == axis else extent)
        first = first.expand(tuple(index.shape))
        statement = Put(first, source, places, out.strides[axis], out.shape[axis])
        call.statements.append(statement)
        return
    counted = torch.arange(out.shape[axis]).reshape(
        [-1 if other == axis else 1 for other in range(len(out.shape))]
    )
    numbers = call.fresh(tuple(counted.shape))
    call.statements.append(Constant(numbers, counted.numpy().astype(float)))
    target = out
    for other, extent in enumerate(index.shape):
        if other != axis:
            target = target.narrow(other, 0, extent)
    for place in _choices(call, index.shape[axis]):
        element = source
        if isinstance(element, View):
            for other, extent in enumerate(index.shape):
                start = place if other == axis else 0
                element = element.narrow(other, start, 1 if other == axis else extent)
        new = element
        if add:
            new = call.made("add", target, element)
        here = places.narrow(axis, place, 1)
        call.map(target, "select_place", here, numbers, new, target)


@rule("embedding_dense_backward")
def _embedding_backward(call: Call) -> None:
    call.fill(call.out, 0.0)
    index = call.integers(call["indices"])
    chosen = _numbered(call.out)[index].numpy()
    _add_at(call, call.out, chosen, call.view("grad_output"))


@rule("unfold_backward")
def _unfold_backward(call: Call) -> None:
    call.fill(call.out, 0.0)
    places = _numbered(call.out).unfold(call["dim"], call["size"], call["step"])
    _add_at(call, call.out, places.numpy(), call.view("grad_in"))
