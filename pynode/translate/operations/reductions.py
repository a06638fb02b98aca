"""Sums, maxima, norms, softmax and the like."""

from __future__ import annotations

import math
from typing import Any

from ..graph import Reduce, Scan, View
from .call import Call, rule


def _axes(view: View, dim: Any) -> list[int]:
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return list(range(len(view.shape)))
    if isinstance(dim, int):
        dim = [dim]
    rank = max(len(view.shape), 1)
    return sorted(axis % rank for axis in dim) if view.shape else []


def _last(view: View, axes: list[int]) -> View:
    """The view with these axes at the end."""
    kept = [axis for axis in range(len(view.shape)) if axis not in axes]
    return view.permute(tuple(kept + axes))


def _squeezed(out: View, axes: list[int], rank: int) -> View:
    """A result without the axes that keepdim kept."""
    if len(out.shape) == rank and axes:
        for axis in reversed(axes):
            out = out.drop(axis)
    return out


def _kept(view: View, axes: list[int]) -> View:
    """A result over the other axes, with axes of one element put in again."""
    for axis in axes:
        view = view.insert(axis)
    return view


def _reduced(call: Call, source: View, axes: list[int], function: str) -> View:
    """The reduction, without the axes, as a new intermediate."""
    shape = tuple(n for axis, n in enumerate(source.shape) if axis not in axes)
    out = call.fresh(shape)
    call.statements.append(Reduce(out, _last(source, axes), function))
    return out


@rule("sum", "prod", "amax", "amin")
def _reduce(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call.get("dim"))
    function = {"amax": "max", "amin": "min"}.get(call.name, call.name)
    out = _squeezed(call.out, axes, len(source.shape)) if call.get("keepdim") else call.out
    call.statements.append(Reduce(out, _last(source, axes), function))


@rule("any", "all")
def _truth(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call.get("dim"))
    ones = call.made("to_bool", source)
    numbers = call.made("to_real", ones)
    function = "max" if call.name == "any" else "min"
    result = _reduced(call, numbers, axes, function)
    if call.get("keepdim"):
        result = _kept(result, axes)
    call.map(call.out, "to_bool", result)


@rule("mean")
def _mean(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call.get("dim"))
    total = _reduced(call, source, axes, "sum")
    if call.get("keepdim"):
        total = _kept(total, axes)
    call.map(call.out, "div", total, float(_count(source, axes)))


def _count(view: View, axes: list[int]) -> int:
    count = 1
    for axis in axes:
        count *= view.shape[axis]
    return count


@rule("max", "min")
def _max(call: Call) -> None:
    source = call.view("self")
    if "other" in call.bound:
        call.map(call.out, call.name + "imum", source, call.view("other"))
        return
    if "dim" not in call.bound:
        axes = list(range(len(source.shape)))
        call.statements.append(Reduce(call.out, _last(source, axes), call.name))
        return
    axis = _axes(source, call["dim"])
    value = call.outs[0]
    index = call.outs[1]
    if not axis:
        call.copy(value, source)
        call.fill(index, 0.0)
        return
    if call["keepdim"]:
        value = value.drop(axis[0])
        index = index.drop(axis[0])
    call.statements.append(Reduce(value, _last(source, axis), call.name))
    # The first place where the value stands; from the last element to the first.
    call.fill(index, 0.0)
    for place in reversed(range(source.shape[axis[0]])):
        element = source.narrow(axis[0], place, 1).drop(axis[0])
        call.map(index, "select_place", element, value, float(place), index)


@rule("logsumexp")
def _logsumexp(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call["dim"])
    largest = _kept(_reduced(call, source, axes, "max"), axes)
    infinite = call.made("isinf", largest)
    shift = call.made("where", infinite, 0.0, largest)
    exponentials = call.made("exp", call.made("sub", source, shift))
    total = _kept(_reduced(call, exponentials, axes, "sum"), axes)
    value = call.made("add", call.made("log", total), shift)
    if not call["keepdim"]:
        for axis in reversed(axes):
            value = value.drop(axis)
    call.copy(call.out, value)


@rule("_softmax", "_log_softmax")
def _softmax(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call["dim"])
    largest = _kept(_reduced(call, source, axes, "max"), axes)
    shifted = call.made("sub", source, largest)
    exponentials = call.made("exp", shifted)
    total = _kept(_reduced(call, exponentials, axes, "sum"), axes)
    if call.name == "_softmax":
        call.map(call.out, "div", exponentials, total)
        return
    call.map(call.out, "sub", shifted, call.made("log", total))


@rule("_safe_softmax")
def _safe_softmax(call: Call) -> None:
    """Zero where all numbers are minus infinity: nothing to attend to."""
    source = call.view("self")
    axes = _axes(source, call["dim"])
    largest = _kept(_reduced(call, source, axes, "max"), axes)
    nothing = call.made("eq", largest, -math.inf)
    exponentials = call.made("exp", call.made("sub", source, largest))
    total = _kept(_reduced(call, exponentials, axes, "sum"), axes)
    call.map(call.out, "where", nothing, 0.0, call.made("div", exponentials, total))


@rule("_weight_norm_interface")
def _weight_norm(call: Call) -> None:
    """w = g v / |v|, with the norms over all axes but one."""
    norms = _norms(call, call.view("v"), call["dim"])
    call.copy(call.outs[1], norms)
    call.map(call.outs[0], "mul", call.view("v"), call.made("div", call.view("g"), norms))


def _norms(call: Call, v: View, dim: int) -> View:
    axes = [axis for axis in range(len(v.shape)) if axis != dim % len(v.shape)]
    total = _kept(_reduced(call, call.made("mul", v, v), axes, "sum"), axes)
    return call.made("sqrt", total)


@rule("_weight_norm_interface_backward")
def _weight_norm_backward(call: Call) -> None:
    gradient = call.view("grad_w")
    v = call.view("saved_v")
    norms = call.view("saved_norms")
    axes = [axis for axis in range(len(v.shape)) if axis != call["dim"] % len(v.shape)]
    along = _kept(_reduced(call, call.made("mul", gradient, v), axes, "sum"), axes)
    scale = call.made("div", call.view("saved_g"), norms)
    part = call.made("div", along, call.made("mul", norms, norms))
    rest = call.made("sub", gradient, call.made("mul", v, part))
    call.map(call.outs[0], "mul", scale, rest)
    call.map(call.outs[1], "div", along, norms)


@rule("_softmax_backward_data")
def _softmax_backward(call: Call) -> None:
    gradient = call.view("grad_output")
    result = call.view("output")
    axes = _axes(result, call["dim"])
    product = call.made("mul", gradient, result)
    total = _kept(_reduced(call, product, axes, "sum"), axes)
    call.map(call.out, "sub", product, call.made("mul", result, total))


@rule("_log_softmax_backward_data")
def _log_softmax_backward(call: Call) -> None:
    gradient = call.view("grad_output")
    result = call.view("output")
    axes = _axes(result, call["dim"])
    total = _kept(_reduced(call, gradient, axes, "sum"), axes)
    call.map(call.out, "sub", gradient, call.made("mul", call.made("exp", result), total))


def _variance(call: Call, source: View, axes: list[int]) -> tuple[View, View]:
    """The variance and the mean, with axes of one element."""
    count = _count(source, axes)
    correction = call.get("correction")
    if "unbiased" in call.bound:
        correction = 1 if call["unbiased"] else 0
    if correction is None:
        correction = 1
    mean = call.made("div", _kept(_reduced(call, source, axes, "sum"), axes), float(count))
    difference = call.made("sub", source, mean)
    square = call.made("mul", difference, difference)
    total = _kept(_reduced(call, square, axes, "sum"), axes)
    # No sample left: NaN or infinity, as torch has it.
    return call.made("div", total, float(max(0, count - correction))), mean


@rule("var", "var_mean", "std", "std_mean")
def _var(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call.get("dim"))
    variance, mean = _variance(call, source, axes)
    if call.name.startswith("std"):
        variance = call.made("sqrt", variance)
    for out, value in zip(call.outs, (variance, mean)):
        if not call.get("keepdim"):
            for axis in reversed(axes):
                value = value.drop(axis)
        call.copy(out, value)


@rule("linalg_vector_norm", "norm")
def _norm(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call.get("dim"))
    order = call.get("ord", call.get("p"))
    order = 2.0 if order is None else float(order)
    size = call.made("abs", source)
    if order == float("inf") or order == -float("inf"):
        result = _reduced(call, size, axes, "max" if order > 0 else "min")
    elif order == 0.0:
        nonzero = call.made("to_real", call.made("ne", source, 0.0))
        result = _reduced(call, nonzero, axes, "sum")
    elif order == 1.0:
        result = _reduced(call, size, axes, "sum")
    elif order == 2.0:
        total = _reduced(call, call.made("mul", source, source), axes, "sum")
        result = call.made("sqrt", total)
    else:
        total = _reduced(call, call.made("power", size, order), axes, "sum")
        result = call.made("power", total, 1.0 / order)
    if call.get("keepdim"):
        result = _kept(result, axes)
    call.copy(call.out, result)


@rule("cumsum", "cumprod")
def _scan(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call["dim"])
    if not axes:
        call.copy(call.out, source)
        return
    function = "sum" if call.name == "cumsum" else "prod"
    call.statements.append(Scan(_last(call.out, axes), _last(source, axes), function))


@rule("native_layer_norm")
def _layer_norm(call: Call) -> None:
    source = call.view("input")
    rank = len(call["normalized_shape"])
    axes = list(range(len(source.shape) - rank, len(source.shape)))
    count = float(_count(source, axes))
    mean = call.made("div", _kept(_reduced(call, source, axes, "sum"), axes), count)
    difference = call.made("sub", source, mean)
    square = call.made("mul", difference, difference)
    variance = call.made("div", _kept(_reduced(call, square, axes, "sum"), axes), count)
    inverse = call.made("rsqrt", call.made("add", variance, float(call["eps"])))
    value = call.made("mul", difference, inverse)
    if call["weight"] is not None:
        value = call.made("mul", value, call.view("weight"))
    if call["bias"] is not None:
        value = call.made("add", value, call.view("bias"))
    for out, result in zip(call.outs, (value, mean, inverse)):
        call.copy(out, result)


@rule("native_layer_norm_backward")
def _layer_norm_backward(call: Call) -> None:
    gradient = call.view("grad_out")
    source = call.view("input")
    rank = len(call["normalized_shape"])
    axes = list(range(len(source.shape) - rank, len(source.shape)))
    lead = list(range(len(source.shape) - rank))
    count = float(_count(source, axes))
    inverse = call.view("rstd")
    normal = call.made("mul", call.made("sub", source, call.view("mean")), inverse)
    outs = iter(call.outs)
    masks = list(call["output_mask"])
    if masks[0]:
        weighted = gradient
        if call["weight"] is not None:
            weighted = call.made("mul", gradient, call.view("weight"))
        first = _kept(_reduced(call, weighted, axes, "sum"), axes)
        along = _reduced(call, call.made("mul", weighted, normal), axes, "sum")
        second = call.made("mul", normal, _kept(along, axes))
        rest = call.made("div", call.made("add", first, second), count)
        call.map(next(outs), "mul", call.made("sub", weighted, rest), inverse)
    if masks[1] and call["weight"] is not None:
        product = call.made("mul", gradient, normal)
        call.statements.append(Reduce(next(outs), _last(product, lead), "sum"))
    if masks[2] and call["bias"] is not None:
        call.statements.append(Reduce(next(outs), _last(gradient, lead), "sum"))
