"""Activations of networks and their pullbacks."""

from __future__ import annotations

import torch

from .call import Call, rule


def _numbers(call: Call, *names: str) -> tuple:
    return tuple(float(call[name]) for name in names)


@rule("gelu")
def _gelu(call: Call) -> None:
    name = "gelu" if call["approximate"] == "none" else "gelu_tanh"
    call.map(call.out, name, call.view("self"))


@rule("gelu_backward")
def _gelu_backward(call: Call) -> None:
    name = "gelu_backward" if call["approximate"] == "none" else "gelu_tanh_backward"
    call.map(call.out, name, call.view("grad_output"), call.view("self"))


@rule("softplus")
def _softplus(call: Call) -> None:
    numbers = _numbers(call, "beta", "threshold")
    call.map(call.out, "softplus", call.view("self"), parameters=numbers)


@rule("softplus_backward")
def _softplus_backward(call: Call) -> None:
    numbers = _numbers(call, "beta", "threshold")
    call.map(
        call.out,
        "softplus_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=numbers,
    )


@rule("elu")
def _elu(call: Call) -> None:
    numbers = _numbers(call, "alpha", "scale", "input_scale")
    call.map(call.out, "elu", call.view("self"), parameters=numbers)


@rule("elu_backward")
def _elu_backward(call: Call) -> None:
    numbers = (*_numbers(call, "alpha", "scale", "input_scale"), bool(call["is_result"]))
    call.map(
        call.out,
        "elu_backward",
        call.view("grad_output"),
        call.view("self_or_result"),
        parameters=numbers,
    )


@rule("celu")
def _celu(call: Call) -> None:
    alpha = float(call["alpha"])
    call.map(call.out, "elu", call.view("self"), parameters=(alpha, 1.0, 1.0 / alpha))


@rule("nan_to_num")
def _nan_to_num(call: Call) -> None:
    limits = torch.finfo(torch.float64 if call.double else torch.float32)
    numbers = []
    for name, standard in (("nan", 0.0), ("posinf", limits.max), ("neginf", limits.min)):
        numbers.append(standard if call[name] is None else float(call[name]))
    call.map(call.out, "nan_to_num", call.view("self"), parameters=tuple(numbers))


@rule("leaky_relu")
def _leaky_relu(call: Call) -> None:
    slope = _numbers(call, "negative_slope")
    call.map(call.out, "leaky_relu", call.view("self"), parameters=slope)


@rule("leaky_relu_backward")
def _leaky_relu_backward(call: Call) -> None:
    slope = _numbers(call, "negative_slope")
    call.map(
        call.out,
        "leaky_relu_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=slope,
    )


@rule("threshold")
def _threshold(call: Call) -> None:
    numbers = _numbers(call, "threshold", "value")
    call.map(call.out, "threshold", call.view("self"), parameters=numbers)


@rule("threshold_backward")
def _threshold_backward(call: Call) -> None:
    numbers = _numbers(call, "threshold")
    call.map(
        call.out,
        "threshold_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=numbers,
    )


@rule("hardtanh_backward")
def _hardtanh_backward(call: Call) -> None:
    numbers = _numbers(call, "min_val", "max_val")
    call.map(
        call.out,
        "hardtanh_backward",
        call.view("grad_output"),
        call.view("self"),
        parameters=numbers,
    )


@rule("silu_backward", "mish_backward", "hardsigmoid_backward", "hardswish_backward")
def _activation_backward(call: Call) -> None:
    call.map(call.out, call.name, call.view("grad_output"), call.view("self"))


@rule("tanh_backward", "sigmoid_backward")
def _output_backward(call: Call) -> None:
    call.map(call.out, call.name, call.view("grad_output"), call.view("output"))


@rule("log_sigmoid_forward")
def _log_sigmoid(call: Call) -> None:
    call.map(call.outs[0], "log_sigmoid", call.view("self"))
    if len(call.outs) > 1:
        call.fill(call.outs[1], 0.0)


@rule("log_sigmoid_backward")
def _log_sigmoid_backward(call: Call) -> None:
    call.map(call.out, "log_sigmoid_backward", call.view("grad_output"), call.view("self"))
