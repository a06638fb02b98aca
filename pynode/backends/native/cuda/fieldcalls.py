"""The functions of a field as device functions, and the call of one of them by its number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..machine import call as call_native

HEAD = "def call(number, t, y, v, inputs, out, work):"
# Of the largest number: the same operations, once by LLVM and once by Python.
TOLERANCE = {"float64": 1e-8, "float32": 1e-2}


class FieldFunctions:
    """Functions of a field from the translator's Python source.

    sources: their text, by the translator's names. targets: how many tensors they read. call: in
    place of machine.call, whose address is the number of a function. numbers: by name; 0 is none: a
    call of it does nothing. jit: makes a device function of a plain one.
    """

    def __init__(
        self, sources: dict[str, str], targets: int, jit: Callable[[Callable], Any]
    ) -> None:
        inputs = "".join(f"inputs[{k}], " for k in range(targets))
        self.numbers = {name: number for number, name in enumerate(sources, 1)}
        globals_: dict[str, Any] = {"math": math}
        lines = [HEAD]
        for name, number in self.numbers.items():
            made = f"function{number}"
            globals_[made] = jit(plain_function(sources[name], made))
            lines.append(f"    if number == {number}:")
            lines.append(f"        {made}(t, y, v, {inputs}out, work)")
        self.call = jit(from_text("call", "\n".join(lines), globals_))


def sources_of(field: Any, names: Sequence[str]) -> dict[str, str]:
    """The Python source of functions of a field. RuntimeError if one gives other numbers than the
    compiled function, which has been compared with torch."""
    found = {}
    for name in names:
        found[name] = field.python_source(name)
        _compare(field, name, plain_function(found[name], "function"))
    return found


def plain_function(source: str, name: str) -> Any:
    """The function of a source, with this name."""
    first = source.index("(", source.index("def "))
    return from_text(name, f"def {name}{source[first:]}", {"math": math})


def from_text(name: str, text: str, globals_: dict[str, Any]) -> Any:
    """The function of this name that the text defines."""
    exec(compile(text, f"<{name} on the GPU>", "exec"), globals_)
    return globals_[name]


def _compare(field, name, function):
    """Call the compiled function and the plain one at the same point."""
    native = field.function(name)
    real = np.dtype(str(field.dtype).removeprefix("torch."))
    y = np.linspace(0.6, 0.9, field.n).astype(real)
    # Vectors of all sets: no function reads more than this.
    v = np.linspace(-0.7, 0.8, (2 * field.n + 1) * (field.n + 1)).astype(real)
    expected = np.ones(native.size, real)
    found = np.ones(native.size, real)
    addresses, held = field.pointers()
    call_native(native.address, 0.3, y, v, addresses, expected, np.empty(max(1, native.work), real))
    memory = [_memory_of(x) for x in held]
    with np.errstate(all="ignore"):
        try:
            function(0.3, y, v, *memory, found, np.empty(1, real))
        except (ArithmeticError, ValueError):
            return  # Python's mathematics raises where the compiled function has an infinite number
    compared = np.isfinite(expected)
    scale = np.abs(expected).max(initial=0.0, where=compared)
    difference = np.abs(found - expected).max(initial=0.0, where=compared)
    if not difference <= TOLERANCE[real.name] * scale:
        raise RuntimeError(
            f"the function {name} of f for the GPU differs from the compiled one by"
            f" {difference:.3g} of {scale:.3g}; please report this f, and use backend='native' or"
            " 'torch'"
        )


def _memory_of(x):
    """The numbers of a tensor as they lie in its memory, without copying."""
    if not x.numel():
        return np.empty(0, x.numpy().dtype)
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided((extent,), (1,)).numpy()
