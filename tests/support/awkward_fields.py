"""Fields that native code must refuse, each with words of the sentence that must say why."""

import random

import numpy as np
import torch
from torch import nn

from .native_fields import DOUBLE

_COUNT = {"calls": 0}


def _float(t, y):
    return y * float(y[0])


def _item(t, y):
    return y * y[0].item()


def _branch(t, y):
    if y[0] > 0:
        return -y
    return y


def _time_as_number(t, y):
    return y * np.sin(float(t))


def _loop_on_value(t, y):
    while y.sum() > 100.0:
        y = y / 2
    return y


def _numpy(t, y):
    return y * torch.as_tensor(np.sin(y.detach().numpy()))


def _numpy_function(t, y):
    return y * float(np.sign(y.detach())[0])


def _numpy_random(t, y):
    return y * torch.from_numpy(np.random.default_rng().random(3))


def _tolist(t, y):
    return y * sum(y.detach().tolist())


def _data_pointer(t, y):
    return y * (y.data_ptr() % 2)


def _single(t, y):
    return (y.to(torch.float32) * 2).to(DOUBLE)


def _half_constant(t, y):
    return y.to(torch.float16).to(DOUBLE)


def _single_result(t, y):
    return y.float()


def _single_zeros(t, y):
    change = torch.zeros(3)
    change[0] = y[0]
    return change.to(DOUBLE)


def _random(t, y):
    return y + torch.rand(3, dtype=DOUBLE)


def _random_like(t, y):
    return y + torch.randn_like(y)


def _python_random(t, y):
    return y * random.random()


def _counter(t, y):
    _COUNT["calls"] += 1
    return y * _COUNT["calls"]


def _complex(t, y):
    return torch.view_as_real(torch.complex(y, y))[:, 0]


def _fft(t, y):
    return torch.fft.fft(y).real


def _state_in_place(t, y):
    y[0] = 0.0
    return y


def _nonzero(t, y):
    return y * len(torch.nonzero(y > 0.5))


def _mask(t, y):
    return y * y[y > -10.0].sum()


def _eigenvalues(t, y):
    return torch.linalg.eigvalsh(torch.eye(3, dtype=DOUBLE) * (1 + y[0]))


def _sort(t, y):
    return torch.sort(y).values


def _shape(t, y):
    return y.sum()


def _sparse(t, y):
    return torch.eye(3, dtype=DOUBLE).to_sparse() @ y


class _Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3).to(DOUBLE)
        self.layer.register_forward_hook(lambda module, inputs, output: output * 2)

    def forward(self, t, y):
        return self.layer(y)


class _ChangingBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(3, dtype=DOUBLE))

    def forward(self, t, y):
        self.seen.add_(1.0)
        return y * self.seen


class _ChangingParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=DOUBLE), requires_grad=False)

    def forward(self, t, y):
        self.weight.data.mul_(0.5)
        return y * self.weight


class _Dropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, t, y):
        return self.drop(y)


class _BatchNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1).to(DOUBLE)

    def forward(self, t, y):
        return self.norm(y[:, None])[:, 0]


class _SingleParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, t, y):
        return y * self.weight


class _NumpyInside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        ctx.save_for_backward(y)
        return y * y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return torch.from_numpy(2 * y.detach().numpy()) * gradient


def _custom(t, y):
    return _NumpyInside.apply(y)


# (name, f, words of the sentence)
AWKWARD = [
    ("float of a value", _float, "_local_scalar_dense"),
    ("item", _item, "turns a tensor into a Python number"),
    ("if on a value", _branch, "torch.where"),
    ("float of the time", _time_as_number, "turns a tensor into a Python number"),
    ("while on a value", _loop_on_value, "turns a tensor into a Python number"),
    ("numpy of the state", _numpy, "takes the numbers of a tensor out of torch"),
    ("numpy's function of a tensor", _numpy_function, "as NumPy does"),
    ("numpy's random numbers", _numpy_random, "same operations in two calls"),
    ("a list of the state", _tolist, "Tensor.tolist"),
    ("the address of the state", _data_pointer, "Tensor.data_ptr"),
    ("single precision inside", _single, "float32"),
    ("half precision inside", _half_constant, "float16"),
    ("a result of single precision", _single_result, "float32"),
    ("a copy into single precision", _single_zeros, "float32"),
    ("random numbers", _random, "draws random numbers"),
    ("random numbers like y", _random_like, "draws random numbers"),
    ("python's random numbers", _python_random, "same operations in two calls"),
    ("a counter", _counter, "same operations in two calls"),
    ("complex numbers", _complex, "complex numbers"),
    ("a fourier transform", _fft, "complex numbers"),
    ("the state changed in place", _state_in_place, "changes the state in place"),
    ("nonzero", _nonzero, "operation nonzero"),
    ("a mask from the state", _mask, "indices that depend on the state"),
    ("eigenvalues", _eigenvalues, "_linalg_eigh"),
    ("a sort", _sort, "operation sort"),
    ("a result of another shape", _shape, "must return a tensor of the state's shape"),
    ("a sparse matrix", _sparse, "dense"),
    ("a hook of a module", _Hooked(), "has a hook"),
    ("a buffer that changes", _ChangingBuffer(), "in place"),
    ("a parameter that changes", _ChangingParameter(), "in place"),
    ("dropout", _Dropout(), "eval()"),
    ("batch norm in training", _BatchNorm(), "in place"),
    ("a parameter of single precision", _SingleParameter(), "float32"),
    ("a backward pass with numpy", _custom, "takes the numbers of a tensor out of torch"),
]
