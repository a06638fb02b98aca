"""Arithmetic, comparisons and functions, element by element."""

from __future__ import annotations

from typing import Any

from ..graph import BOOL, View
from ..scalar_functions import LIBRARY
from .call import Call, rule
from .moves import move

_UNARY = [name for name in LIBRARY if name != "round"]
_UNARY += "neg reciprocal rsqrt sign isnan isfinite isinf logical_not relu silu mish".split()
_UNARY += "sigmoid hardsigmoid hardswish".split()


@rule(*_UNARY)
def _unary(call: Call) -> None:
    call.map(call.out, call.name, call.view("self"))


@rule("sgn")
def _sgn(call: Call) -> None:
    call.map(call.out, "sign", call.view("self"))


@rule("special_erf")
def _special_erf(call: Call) -> None:
    call.map(call.out, "erf", call.view("self"))


@rule("bitwise_not")
def _bitwise_not(call: Call) -> None:
    if call.view("self").buffer.kind != BOOL:
        raise call.refuse("of integers")
    call.map(call.out, "logical_not", call.view("self"))


@rule("round")
def _round(call: Call) -> None:
    if call.get("decimals"):
        raise call.refuse("with decimals")
    call.map(call.out, "round", call.view("self"))


_BINARY = "mul eq ne lt le gt ge maximum minimum fmod remainder atan2 hypot xlogy".split()
_BINARY += "logical_and logical_or logical_xor special_xlog1py logaddexp".split()


@rule(*_BINARY)
def _binary(call: Call) -> None:
    call.map(call.out, call.name, call.operand("self"), call.operand("other"))


@rule("bitwise_and", "bitwise_or", "bitwise_xor")
def _bitwise(call: Call) -> None:
    if call.view("self").buffer.kind != BOOL:
        raise call.refuse("of integers")
    name = call.name.replace("bitwise", "logical")
    call.map(call.out, name, call.operand("self"), call.operand("other"))


@rule("add", "sub")
def _add(call: Call) -> None:
    alpha = (float(call["alpha"]),)
    call.map(call.out, call.name, call.operand("self"), call.operand("other"), parameters=alpha)


@rule("rsub")
def _rsub(call: Call) -> None:
    alpha = (float(call["alpha"]),)
    call.map(call.out, "sub", call.operand("other"), call.operand("self"), parameters=alpha)


@rule("div", "divide", "true_divide")
def _div(call: Call) -> None:
    mode = call.get("rounding_mode")
    name = "div" if mode is None else f"div_{mode}"
    call.map(call.out, name, call.operand("self"), call.operand("other"))


@rule("floor_divide")
def _floor_divide(call: Call) -> None:
    call.map(call.out, "div_floor", call.operand("self"), call.operand("other"))


@rule("pow")
def _pow(call: Call) -> None:
    call.map(call.out, "power", call.operand("self"), call.operand("exponent"))


@rule("where")
def _where(call: Call) -> None:
    call.map(call.out, "where", call.view("condition"), call.operand("self"), call.operand("other"))


@rule("masked_fill")
def _masked_fill(call: Call) -> None:
    call.map(call.out, "where", call.view("mask"), call.operand("value"), call.view("self"))


@rule("clamp")
def _clamp(call: Call) -> None:
    value: Any = call.view("self")
    if call["min"] is not None:
        value = call.made("maximum", value, call.operand("min"))
    if call["max"] is not None:
        value = call.made("minimum", value, call.operand("max"))
    call.copy(call.out, value)


@rule("clamp_min")
def _clamp_min(call: Call) -> None:
    call.map(call.out, "maximum", call.view("self"), call.operand("min"))


@rule("clamp_max")
def _clamp_max(call: Call) -> None:
    call.map(call.out, "minimum", call.view("self"), call.operand("max"))


@rule("hardtanh")
def _hardtanh(call: Call) -> None:
    low = call.made("maximum", call.view("self"), float(call["min_val"]))
    call.map(call.out, "minimum", low, float(call["max_val"]))


@rule("addcmul", "addcdiv")
def _addc(call: Call) -> None:
    call.map(
        call.out,
        call.name,
        call.view("self"),
        call.view("tensor1"),
        call.view("tensor2"),
        parameters=(float(call["value"]),),
    )


@rule("lerp")
def _lerp(call: Call) -> None:
    call.map(call.out, "lerp", call.view("self"), call.view("end"), call.operand("weight"))


@rule("copy")
def _copy(call: Call) -> None:
    call.copy(call.out, call.view("src").expand(call.out.shape))


@rule("clone", "_to_copy", "alias_copy", "_unsafe_view", "view_copy", "expand_copy")
def _clone(call: Call) -> None:
    source = call.view("self")
    if call.name in ("_unsafe_view", "view_copy", "expand_copy"):
        move(call)
        return
    call.copy(call.out, source)


@rule("fill")
def _fill(call: Call) -> None:
    value = call.operand("value")
    if isinstance(value, View):
        call.copy(call.out, value.expand(call.out.shape))
        return
    call.fill(call.out, value)


@rule("zero")
def _zero(call: Call) -> None:
    call.fill(call.out, 0.0)
