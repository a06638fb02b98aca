"""The fields of the benchmarks in other array languages than torch: JAX, casadi's expressions, text
for DiffSL. Each file of benchmarks/problems adds the formula of its field."""

from functools import singledispatch

import numpy as np


@singledispatch
def formula(field, array, tanh):
    """The field of a problem, or a network, as a function (y, parameters=None) -> dy/dt of one
    state (n,).

    array: makes the language's array of a NumPy array; arrays multiply by component, and @ is the
    matrix product. parameters: of a network, arrays in the order of field.parameters(); by default
    those that it has.
    """
    raise ValueError(
        f"no formula of {type(field).__name__}: write one in benchmarks/problems, under"
        " @formula.register"
    )


def constants(field, array) -> tuple:
    """(the fixed arrays of a field of pynode.problems by name, its constants k)."""
    fixed = {
        name: array(value.numpy())
        for name, value in field._buffers.items()
        if value.is_floating_point()
    }
    return fixed, array(field.k.detach().numpy())


def agree(field, y0, found, language: str):
    """ValueError unless `found`, dy/dt at y0, is what the torch field gives."""
    expected = field(0.0, y0).detach().numpy()
    if not np.allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max()):
        raise ValueError(f"the {language} twin of {type(field).__name__} is another field")


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
