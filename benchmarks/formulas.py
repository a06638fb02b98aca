"""The fields of the benchmarks in other array languages than torch: JAX, casadi's expressions, text
for DiffSL."""

import numpy as np

from benchmarks.fields import MLP, StiffMLP
from pynode.problems import bilinear, hires, lorenz, spiral, vanderpol


def formula(field, array, tanh):
    """The field of a problem of pynode.problems, or a network, as a function (y, parameters=None)
    -> dy/dt of one state (n,).

    array: makes the language's array of a NumPy array; arrays multiply by component, and @ is the
    matrix product. parameters: of a network, arrays in the order of field.parameters(); by default
    those that it has.
    """
    if isinstance(field, MLP):
        return _network(field, array, tanh)
    fixed = {
        name: array(value.numpy())
        for name, value in field._buffers.items()
        if value.is_floating_point()
    }
    k = array(field.k.detach().numpy())
    if isinstance(field, bilinear.Bilinear):
        c, first = array(field.coefficients().detach().numpy()), field.first.numpy()
        return lambda y, parameters=None: (
            fixed["S"] @ (c * y[first] * (fixed["A"] @ y + fixed["b"]))
        )
    if isinstance(field, vanderpol.VanDerPol):
        return lambda y, parameters=None: (
            fixed["rotation"] @ y + k * (fixed["W"] @ (y * y) + fixed["b"]) * y
        )
    if isinstance(field, hires.Hires):
        linear, source, bound = fixed["linear"], fixed["source"], fixed["bound"]
        return lambda y, parameters=None: linear @ y + source + k * (bound @ y) * y[7:]
    if isinstance(field, spiral.Spiral):
        return lambda y, parameters=None: k.reshape(2, 2) @ (y * y * y)
    if isinstance(field, lorenz.Lorenz):
        return lambda y, parameters=None: (
            fixed["N"] @ y + k * (fixed["M"] @ y) + y[:1] * (fixed["P"] @ y)
        )
    raise ValueError(f"no formula of {type(field).__name__}: write one here")


def _network(field, array, tanh):
    named = {name: array(value.detach().numpy()) for name, value in field.named_parameters()}
    stiff = isinstance(field, StiffMLP)

    def right(y, parameters=None):
        values = dict(zip(named, parameters, strict=True)) if parameters is not None else named
        layers = [value for name, value in values.items() if name.startswith("layers")]
        u = y
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2]):
            u = tanh(weight @ u + bias)
        out = layers[-2] @ u + layers[-1]
        return values["rates"] * (out - y) if stiff else out

    return right


class Term:
    """A scalar expression as text: what goes into a formula so that text comes out."""

    def __init__(self, text: str):
        self.text = text

    def __add__(self, other):
        return self if _is(other, 0.0) else Term(f"{self.text} + {written(other)}")

    __radd__ = __add__

    def __sub__(self, other):
        return Term(f"{self.text} - ({written(other)})")

    def __mul__(self, other):
        if _is(other, 0.0):
            return 0.0
        return self if _is(other, 1.0) else Term(f"({self.text}) * ({written(other)})")

    __rmul__ = __mul__


def _is(other, number: float) -> bool:
    return not isinstance(other, Term) and other == number


def written(value) -> str:
    """The text of a Term or a number."""
    return value.text if isinstance(value, Term) else repr(float(value))


def objects(values) -> np.ndarray:
    """The values as an array of Python objects, with which NumPy does the algebra of whatever they
    are."""
    return np.array(values, dtype=object)
