"""The functions of a field as device functions, and the call of one of them by its number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

HEAD = "def call(number, t, y, v, inputs, out, work):"


class FieldFunctions:
    """Functions of a field from the translator's Python source.

    call: in place of machine.call, whose address is the number of a function. numbers: by name;
    0 is none: a call of it does nothing.
    """

    def __init__(self, field: Any, names: Sequence[str], jit: Callable[[Callable], Any]) -> None:
        inputs = "".join(f"inputs[{k}], " for k in range(len(field.targets)))
        self.numbers = {name: number for number, name in enumerate(names, 1)}
        globals_: dict[str, Any] = {"math": math}
        lines = [HEAD]
        for name, number in self.numbers.items():
            made = f"function{number}"
            globals_[made] = jit(_function(field, name, made))
            lines.append(f"    if number == {number}:")
            lines.append(f"        {made}(t, y, v, {inputs}out, work)")
        self.call = jit(from_text("call", "\n".join(lines), globals_))


def _function(field, name, made):
    """A function of the field. made: its name in Python."""
    source = field.python_source(name)
    first = source.index("(", source.index("def "))
    return from_text(made, f"def {made}{source[first:]}", {"math": math})


def from_text(name: str, text: str, globals_: dict[str, Any]) -> Any:
    """The function of this name that the text defines."""
    exec(compile(text, f"<{name} on the GPU>", "exec"), globals_)
    return globals_[name]
