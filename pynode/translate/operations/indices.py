"""Reading and writing at indices, known ones and those that depend on the state."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..graph import Constant, ScatterAdd, View, at_places
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


@rule("index_put", "_unsafe_index_put", "_index_put_impl")
def _index_put(call: Call) -> None:
    out = call.out
    source = call.view("self")
    if out.buffer is not source.buffer:
        call.copy(out, source)
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
    index = call.integers(call["index"])
    chosen = torch.ops.aten.index_select(_numbered(out), call["dim"], index).numpy()
    source = call.view("source")
    if float(call["alpha"]) != 1.0:
        source = call.made("mul", source, float(call["alpha"]))
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
