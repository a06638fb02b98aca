"""One operation while it is recorded, and the table of the rules for operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..graph import (
    BOOL,
    INT,
    REAL,
    Buffer,
    Constant,
    Map,
    Statement,
    View,
    contiguous,
)
from ..refusal import TranslationRefused, user_line


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
                function = "trunc"
        self.map(out, function, source)

    def integers(self, x: Tensor) -> Tensor:
        """A tensor of indices; its numbers must be known."""
        if self.views[id(x)].buffer not in self.constant:
            raise self.refuse("with indices that depend on the state")
        return x


# For the name of an operation the rule that writes its statements.
RULES: dict[str, Callable[[Call], None]] = {}


def rule(*names: str) -> Callable[[Callable[[Call], None]], Callable[[Call], None]]:
    """Put a rule into the table under these names."""

    def put(function: Callable[[Call], None]) -> Callable[[Call], None]:
        for name in names:
            RULES[name] = function
        return function

    return put
