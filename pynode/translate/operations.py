"""The operations of torch that native code has, each as a few statements of graph.py.

What is not in this table is refused. Operations that only move numbers are carried out on the
places of the numbers, by torch itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .graph import (
    BOOL,
    INT,
    REAL,
    Buffer,
    Constant,
    Contract,
    Map,
    Reduce,
    Scan,
    ScatterAdd,
    Statement,
    View,
    at_places,
    contiguous,
)
from .refusal import TranslationRefused, user_line
from .scalar_functions import LIBRARY

# Results whose numbers do not depend on the arguments' numbers, and those that nobody reads.
EMPTY = frozenset("empty empty_like new_empty new_empty_strided empty_strided".split())
FACTORIES = EMPTY | frozenset(
    "zeros_like ones_like full_like new_zeros new_ones new_full scalar_tensor".split()
)


class Call:
    """One operation: its name, its arguments by name, and the views of its results.

    outs: the views that it writes. constant: the buffers whose numbers are known.
    """

    def __init__(
        self,
        statements: list[Statement],
        name: str,
        bound: dict[str, Any],
        views: dict[int, View],
        outs: list[View],
        constant: set[Buffer],
    ) -> None:
        self.statements = statements
        self.name = name
        self.bound = bound
        self.views = views
        self.outs = outs
        self.constant = constant

    def __getitem__(self, name: str) -> Any:
        return self.bound[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The argument, or the default if the operation has none of this name."""
        return self.bound.get(name, default)

    @property
    def out(self) -> View:
        """The view of the first result."""
        return self.outs[0]

    def view(self, x: Any) -> View:
        """The view of a tensor, by the argument's name or itself."""
        if isinstance(x, str):
            x = self.bound[x]
        return self.views[id(x)]

    def operand(self, x: Any) -> View | float:
        """A view, or a number."""
        if isinstance(x, str):
            x = self.bound[x]
        if isinstance(x, Tensor):
            return self.views[id(x)]
        return float(x)

    @property
    def double(self) -> bool:
        """Whether the first argument has double precision."""
        return next(x for x in self.bound.values() if isinstance(x, Tensor)).dtype == torch.float64

    def refuse(self, why: str) -> TranslationRefused:
        """A refusal of this use of the operation."""
        return TranslationRefused(
            f"Native code does not have {self.name} {why}{user_line()}. Use backend='torch', or "
            "write this part with other operations."
        )

    def fresh(self, shape: tuple[int, ...], kind: str = REAL) -> View:
        """A new intermediate."""
        size = 1
        for extent in shape:
            size *= extent
        return contiguous(Buffer(size, kind), tuple(shape))

    def map(self, out: View, function: str, *inputs: Any, parameters: tuple = ()) -> View:
        """Write a Map whose inputs are broadcast."""
        expanded = tuple(x.expand(out.shape) if isinstance(x, View) else x for x in inputs)
        self.statements.append(Map(out, function, expanded, tuple(parameters)))
        return out

    def made(self, function: str, *inputs: Any, parameters: tuple = ()) -> View:
        """A Map into a new intermediate."""
        shapes = [x.shape for x in inputs if isinstance(x, View)]
        out = self.fresh(tuple(np.broadcast_shapes(*shapes)))
        return self.map(out, function, *inputs, parameters=parameters)

    def fill(self, out: View, value: float) -> None:
        """Write one number everywhere."""
        self.statements.append(Constant(out, np.full(out.shape, float(value))))

    def copy(self, out: View, source: View) -> None:
        """Write source, converted to out's kind."""
        function = "copy"
        if out.buffer.kind != source.buffer.kind:
            function = "to_bool" if out.buffer.kind == BOOL else "to_real"
            if out.buffer.kind == INT and source.buffer.kind == REAL:
                raise self.refuse("from floating numbers to integers")
        self.map(out, function, source)

    def integers(self, x: Tensor) -> Tensor:
        """A tensor of indices; its numbers must be known."""
        if self.views[id(x)].buffer not in self.constant:
            raise self.refuse("with indices that depend on the state")
        return x


RULES: dict[str, Callable[[Call], None]] = {}


def _rule(*names: str) -> Callable[[Callable[[Call], None]], Callable[[Call], None]]:
    def put(function: Callable[[Call], None]) -> Callable[[Call], None]:
        for name in names:
            RULES[name] = function
        return function

    return put


# ------------------------------------------------------------ element by element


_UNARY = [name for name in LIBRARY if name != "round"]
_UNARY += "neg reciprocal rsqrt sign isnan isfinite isinf logical_not relu silu mish".split()
_UNARY += "sigmoid hardsigmoid hardswish".split()


@_rule(*_UNARY)
def _unary(call: Call) -> None:
    call.map(call.out, call.name, call.view("self"))


@_rule("sgn")
def _sgn(call: Call) -> None:
    call.map(call.out, "sign", call.view("self"))


@_rule("special_erf")
def _special_erf(call: Call) -> None:
    call.map(call.out, "erf", call.view("self"))


@_rule("bitwise_not")
def _bitwise_not(call: Call) -> None:
    if call.view("self").buffer.kind != BOOL:
        raise call.refuse("of integers")
    call.map(call.out, "logical_not", call.view("self"))


@_rule("round")
def _round(call: Call) -> None:
    if call.get("decimals"):
        raise call.refuse("with decimals")
    call.map(call.out, "round", call.view("self"))


_BINARY = "mul eq ne lt le gt ge maximum minimum fmod remainder atan2 hypot xlogy".split()
_BINARY += "logical_and logical_or logical_xor special_xlog1py logaddexp".split()


@_rule(*_BINARY)
def _binary(call: Call) -> None:
    call.map(call.out, call.name, call.operand("self"), call.operand("other"))


@_rule("bitwise_and", "bitwise_or", "bitwise_xor")
def _bitwise(call: Call) -> None:
    if call.view("self").buffer.kind != BOOL:
        raise call.refuse("of integers")
    name = call.name.replace("bitwise", "logical")
    call.map(call.out, name, call.operand("self"), call.operand("other"))


@_rule("add", "sub")
def _add(call: Call) -> None:
    alpha = (float(call["alpha"]),)
    call.map(call.out, call.name, call.operand("self"), call.operand("other"), parameters=alpha)


@_rule("rsub")
def _rsub(call: Call) -> None:
    alpha = (float(call["alpha"]),)
    call.map(call.out, "sub", call.operand("other"), call.operand("self"), parameters=alpha)


@_rule("div", "divide", "true_divide")
def _div(call: Call) -> None:
    mode = call.get("rounding_mode")
    name = "div" if mode is None else f"div_{mode}"
    call.map(call.out, name, call.operand("self"), call.operand("other"))


@_rule("floor_divide")
def _floor_divide(call: Call) -> None:
    call.map(call.out, "div_floor", call.operand("self"), call.operand("other"))


@_rule("pow")
def _pow(call: Call) -> None:
    call.map(call.out, "power", call.operand("self"), call.operand("exponent"))


@_rule("where")
def _where(call: Call) -> None:
    call.map(call.out, "where", call.view("condition"), call.operand("self"), call.operand("other"))


@_rule("masked_fill")
def _masked_fill(call: Call) -> None:
    call.map(call.out, "where", call.view("mask"), call.operand("value"), call.view("self"))


@_rule("clamp")
def _clamp(call: Call) -> None:
    value: Any = call.view("self")
    if call["min"] is not None:
        value = call.made("maximum", value, call.operand("min"))
    if call["max"] is not None:
        value = call.made("minimum", value, call.operand("max"))
    call.copy(call.out, value)


@_rule("clamp_min")
def _clamp_min(call: Call) -> None:
    call.map(call.out, "maximum", call.view("self"), call.operand("min"))


@_rule("clamp_max")
def _clamp_max(call: Call) -> None:
    call.map(call.out, "minimum", call.view("self"), call.operand("max"))


@_rule("hardtanh")
def _hardtanh(call: Call) -> None:
    low = call.made("maximum", call.view("self"), float(call["min_val"]))
    call.map(call.out, "minimum", low, float(call["max_val"]))


@_rule("addcmul", "addcdiv")
def _addc(call: Call) -> None:
    call.map(
        call.out,
        call.name,
        call.view("self"),
        call.view("tensor1"),
        call.view("tensor2"),
        parameters=(float(call["value"]),),
    )


@_rule("lerp")
def _lerp(call: Call) -> None:
    call.map(call.out, "lerp", call.view("self"), call.view("end"), call.operand("weight"))


@_rule("copy")
def _copy(call: Call) -> None:
    call.copy(call.out, call.view("src").expand(call.out.shape))


@_rule("clone", "_to_copy", "alias_copy", "_unsafe_view", "view_copy", "expand_copy")
def _clone(call: Call) -> None:
    source = call.view("self")
    if call.name in ("_unsafe_view", "view_copy", "expand_copy"):
        _move(call)
        return
    call.copy(call.out, source)


@_rule("fill")
def _fill(call: Call) -> None:
    value = call.operand("value")
    if isinstance(value, View):
        call.copy(call.out, value.expand(call.out.shape))
        return
    call.fill(call.out, value)


@_rule("zero")
def _zero(call: Call) -> None:
    call.fill(call.out, 0.0)


# ------------------------------------------------------------------ activations


def _numbers(call: Call, *names: str) -> tuple:
    return tuple(float(call[name]) for name in names)


@_rule("gelu")
def _gelu(call: Call) -> None:
    name = "gelu" if call["approximate"] == "none" else "gelu_tanh"
    call.map(call.out, name, call.view("self"))


@_rule("gelu_backward")
def _gelu_backward(call: Call) -> None:
    name = "gelu_backward" if call["approximate"] == "none" else "gelu_tanh_backward"
    call.map(call.out, name, call.view("grad_output"), call.view("self"))


@_rule("softplus")
def _softplus(call: Call) -> None:
    numbers = _numbers(call, "beta", "threshold")
    call.map(call.out, "softplus", call.view("self"), parameters=numbers)


@_rule("softplus_backward")
def _softplus_backward(call: Call) -> None:
    numbers = _numbers(call, "beta", "threshold")
    call.map(
        call.out,
        "softplus_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=numbers,
    )


@_rule("elu")
def _elu(call: Call) -> None:
    numbers = _numbers(call, "alpha", "scale", "input_scale")
    call.map(call.out, "elu", call.view("self"), parameters=numbers)


@_rule("elu_backward")
def _elu_backward(call: Call) -> None:
    numbers = (*_numbers(call, "alpha", "scale", "input_scale"), bool(call["is_result"]))
    call.map(
        call.out,
        "elu_backward",
        call.view("grad_output"),
        call.view("self_or_result"),
        parameters=numbers,
    )


@_rule("celu")
def _celu(call: Call) -> None:
    alpha = float(call["alpha"])
    call.map(call.out, "elu", call.view("self"), parameters=(alpha, 1.0, 1.0 / alpha))


@_rule("nan_to_num")
def _nan_to_num(call: Call) -> None:
    limits = torch.finfo(torch.float64 if call.double else torch.float32)
    numbers = []
    for name, standard in (("nan", 0.0), ("posinf", limits.max), ("neginf", limits.min)):
        numbers.append(standard if call[name] is None else float(call[name]))
    call.map(call.out, "nan_to_num", call.view("self"), parameters=tuple(numbers))


@_rule("leaky_relu")
def _leaky_relu(call: Call) -> None:
    slope = _numbers(call, "negative_slope")
    call.map(call.out, "leaky_relu", call.view("self"), parameters=slope)


@_rule("leaky_relu_backward")
def _leaky_relu_backward(call: Call) -> None:
    slope = _numbers(call, "negative_slope")
    call.map(
        call.out,
        "leaky_relu_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=slope,
    )


@_rule("threshold")
def _threshold(call: Call) -> None:
    numbers = _numbers(call, "threshold", "value")
    call.map(call.out, "threshold", call.view("self"), parameters=numbers)


@_rule("threshold_backward")
def _threshold_backward(call: Call) -> None:
    numbers = _numbers(call, "threshold")
    call.map(
        call.out,
        "threshold_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=numbers,
    )


@_rule("hardtanh_backward")
def _hardtanh_backward(call: Call) -> None:
    numbers = _numbers(call, "min_val", "max_val")
    call.map(
        call.out,
        "hardtanh_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=numbers,
    )


@_rule("silu_backward", "mish_backward", "hardsigmoid_backward", "hardswish_backward")
def _activation_backward(call: Call) -> None:
    call.map(call.out, call.name, call.view("grad_output"), call.view("self"))


@_rule("tanh_backward", "sigmoid_backward")
def _output_backward(call: Call) -> None:
    call.map(call.out, call.name, call.view("grad_output"), call.view("output"))


@_rule("log_sigmoid_forward")
def _log_sigmoid(call: Call) -> None:
    call.map(call.outs[0], "log_sigmoid", call.view("self"))
    if len(call.outs) > 1:
        call.fill(call.outs[1], 0.0)


@_rule("log_sigmoid_backward")
def _log_sigmoid_backward(call: Call) -> None:
    call.map(call.out, "log_sigmoid_backward", call.view("grad_output"), call.view("self"))


# ------------------------------------------------------------------- reductions


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


@_rule("sum", "prod", "amax", "amin")
def _reduce(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call.get("dim"))
    function = {"amax": "max", "amin": "min"}.get(call.name, call.name)
    out = _squeezed(call.out, axes, len(source.shape)) if call.get("keepdim") else call.out
    call.statements.append(Reduce(out, _last(source, axes), function))


@_rule("any", "all")
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


@_rule("mean")
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


@_rule("max", "min")
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


@_rule("logsumexp")
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


@_rule("_softmax", "_log_softmax")
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


@_rule("_softmax_backward_data")
def _softmax_backward(call: Call) -> None:
    gradient = call.view("grad_output")
    result = call.view("output")
    axes = _axes(result, call["dim"])
    product = call.made("mul", gradient, result)
    total = _kept(_reduced(call, product, axes, "sum"), axes)
    call.map(call.out, "sub", product, call.made("mul", result, total))


@_rule("_log_softmax_backward_data")
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


@_rule("var", "var_mean", "std", "std_mean")
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


@_rule("linalg_vector_norm", "norm")
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


@_rule("cumsum", "cumprod")
def _scan(call: Call) -> None:
    source = call.view("self")
    axes = _axes(source, call["dim"])
    if not axes:
        call.copy(call.out, source)
        return
    function = "sum" if call.name == "cumsum" else "prod"
    call.statements.append(Scan(_last(call.out, axes), _last(source, axes), function))


@_rule("native_layer_norm")
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


@_rule("native_layer_norm_backward")
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


# --------------------------------------------------------------------- products


def _product(call: Call, left: View, right: View, scale: float = 1.0) -> None:
    """Add scale left @ right to the result; both views are matrices or batches of them."""
    batch = len(left.shape) - 2
    rows = left.shape[batch]
    inner = left.shape[batch + 1]
    columns = right.shape[batch + 1]
    out = call.out
    # Axes of the products: batch, row, column, inner.
    first = left.insert(batch + 1, columns)
    order = (*range(batch), batch + 1, batch)
    second = right.permute(order).insert(batch, rows)
    shape = out.shape
    assert first.shape == second.shape == (*shape, inner)
    call.statements.append(Contract(out, first, second, scale))


def _vector_product(call: Call, matrix: View, vector: View, scale: float = 1.0) -> None:
    rows = matrix.shape[0]
    right = vector.insert(0, rows)
    call.statements.append(Contract(call.out, matrix, right, scale))


@_rule("mm")
def _mm(call: Call) -> None:
    call.fill(call.out, 0.0)
    _product(call, call.view("self"), call.view("mat2"))


@_rule("bmm")
def _bmm(call: Call) -> None:
    call.fill(call.out, 0.0)
    _product(call, call.view("self"), call.view("mat2"))


@_rule("mv")
def _mv(call: Call) -> None:
    call.fill(call.out, 0.0)
    _vector_product(call, call.view("self"), call.view("vec"))


@_rule("dot", "vdot")
def _dot(call: Call) -> None:
    call.fill(call.out, 0.0)
    right = call.view("tensor" if call.name == "dot" else "other")
    call.statements.append(Contract(call.out, call.view("self"), right))


def _start(call: Call) -> None:
    """beta times the first argument of addmm and its kin."""
    beta = float(call["beta"])
    if beta == 0.0:
        call.fill(call.out, 0.0)
    else:
        call.map(call.out, "mul", call.view("self"), beta)


@_rule("addmm", "baddbmm")
def _addmm(call: Call) -> None:
    names = ("mat1", "mat2") if call.name == "addmm" else ("batch1", "batch2")
    _start(call)
    _product(call, call.view(names[0]), call.view(names[1]), float(call["alpha"]))


@_rule("addmv")
def _addmv(call: Call) -> None:
    _start(call)
    _vector_product(call, call.view("mat"), call.view("vec"), float(call["alpha"]))


@_rule("addr")
def _addr(call: Call) -> None:
    rows = call.view("vec1").insert(1)
    columns = call.view("vec2").insert(0)
    product = call.made("mul", rows, columns)
    scaled = call.made("mul", product, float(call["alpha"]))
    start = call.made("mul", call.view("self"), float(call["beta"]))
    call.map(call.out, "add", start, scaled)


# ------------------------------------------------------------- moves of numbers

# Places among which native code chooses for an index that depends on the state.
_MOST_CHOICES = 256

_MOVES = """flip roll repeat index_select index take embedding tril triu diag_embed
select_backward slice_backward diagonal_backward select_scatter slice_scatter diagonal_scatter
as_strided_scatter permute_copy transpose_copy t_copy unsqueeze_copy squeeze_copy select_copy
slice_copy diagonal_copy split_copy unbind_copy as_strided_copy unfold_copy _reshape_copy
trace_copy channel_shuffle pixel_shuffle pixel_unshuffle narrow_copy repeat_interleave""".split()


def _move(call: Call) -> None:
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


for _name in _MOVES:
    RULES[_name] = _move


@_rule("cat")
def _cat(call: Call) -> None:
    parts = [x for x in call["tensors"] if x.numel()]
    axis = call["dim"] % len(call.out.shape)
    start = 0
    for x in parts:
        source = call.view(x)
        length = source.shape[axis]
        call.copy(call.out.narrow(axis, start, length), source)
        start += length


@_rule("stack")
def _stack(call: Call) -> None:
    axis = call["dim"] % len(call.out.shape)
    for place, x in enumerate(call["tensors"]):
        call.copy(call.out.narrow(axis, place, 1).drop(axis), call.view(x))


@_rule("constant_pad_nd")
def _pad(call: Call) -> None:
    source = call.view("self")
    value = float(call["value"])
    places = torch.arange(1, 1 + source.size).reshape(source.shape)
    moved = torch.ops.aten.constant_pad_nd(places, call["pad"], 0).numpy()
    call.fill(call.out, value)
    targets = call.out.places()[moved > 0]
    chosen = source.places().reshape(-1)[moved[moved > 0] - 1]
    call.copy(at_places(call.out.buffer, targets), at_places(source.buffer, chosen))


@_rule("trace")
def _trace(call: Call) -> None:
    source = call.view("self")
    length = min(source.shape)
    places = np.diagonal(source.places())[:length]
    call.statements.append(Reduce(call.out, at_places(source.buffer, places), "sum"))


def _numbered(view: View) -> Tensor:
    return torch.arange(view.size).reshape(view.shape)


def _add_at(call: Call, out: View, chosen: np.ndarray, source: View) -> None:
    """out[chosen] += source; chosen are places in row-major order of out."""
    places = out.places().reshape(-1)[chosen]
    source = source.expand(chosen.shape)
    call.statements.append(ScatterAdd(at_places(out.buffer, places), source))


@_rule("index_put", "_unsafe_index_put", "_index_put_impl")
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


@_rule("index_add")
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


@_rule("put")
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


@_rule("index_fill")
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


@_rule("index_copy")
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


@_rule("gather")
def _gather(call: Call) -> None:
    index: Tensor = call["index"]
    if call.view(index).buffer in call.constant:
        _move(call)
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


@_rule("scatter_add")
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


@_rule("scatter")
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


@_rule("embedding_dense_backward")
def _embedding_backward(call: Call) -> None:
    call.fill(call.out, 0.0)
    index = call.integers(call["indices"])
    chosen = _numbered(call.out)[index].numpy()
    _add_at(call, call.out, chosen, call.view("grad_output"))


@_rule("unfold_backward")
def _unfold_backward(call: Call) -> None:
    call.fill(call.out, 0.0)
    places = _numbered(call.out).unfold(call["dim"], call["size"], call["step"])
    _add_at(call, call.out, places.numpy(), call.view("grad_in"))
