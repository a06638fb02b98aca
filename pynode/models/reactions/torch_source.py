"""Expressions as the Python source of a torch function."""

from __future__ import annotations

import keyword
import linecache
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import sympy as sp
import torch

from .formula_text import RELATIONS, FormulaPrinter, number
from .guards import with_guards
from .symbols import names, needed, symbol

_FUNCTIONS = {
    name: name
    for name in "exp log sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh floor".split()
} | {"Abs": "abs", "ceiling": "ceil", "sign": "sign", "erf": "erf", "loggamma": "lgamma"}
# Functions that torch lacks, by those that it has.
_INVERSES = {"sec": "cos", "csc": "sin", "cot": "tan", "sech": "cosh", "csch": "sinh"}
_INVERSES["coth"] = "tanh"
_ARCS = {"asec": "acos", "acsc": "asin", "acot": "atan", "asech": "acosh", "acsch": "asinh"}
_ARCS["acoth"] = "atanh"
# Vectors of which a function reads more components are taken apart at once. torch's derivative of
# each single one is a vector of the whole length.
MOST_SINGLE = 12
# Powers of a symbol that are products.
_WRITTEN_OUT = (2, 3)


def literal(text: str) -> str:
    """The text of a number as Python source: "nan" and "inf" need float()."""
    if text[-1].isdigit():
        return text
    return f'float("{text}")'


class TorchPrinter(FormulaPrinter):
    """An expression of tensors.

    variables: the Python name of each symbol. like: the Python name of a tensor, whose dtype and
    device numbers take where torch needs a tensor. first: names that stand first in a product.
    """

    power = "**"
    printmethod = "_torch"

    def __init__(
        self, variables: Mapping[str, str], like: str = "t", first: Collection[str] = ()
    ) -> None:
        super().__init__(first)
        self.variables = variables
        self.like = like

    def emptyPrinter(self, expr: sp.Basic) -> NoReturn:
        """Raise ValueError: there is no rule for the expression."""
        raise ValueError(f"there is no torch function for {type(expr).__name__} in {expr}")

    def number(self, value: sp.Expr) -> str:
        """A number as Python source."""
        return literal(number(value))

    def tensor(self, expr: sp.Basic) -> str:
        """The expression as a tensor, also where it is a number."""
        if not expr.free_symbols:
            return f"torch.full_like({self.like}, {self._print(expr)})"
        return self._print(expr)

    def _print_Symbol(self, expr):
        return self.variables[expr.name]

    def _binding_of_power(self, expr, text):
        if text.startswith("torch."):
            return 4
        if expr.exp in _WRITTEN_OUT and expr.base.is_Symbol:
            return 2
        return super()._binding_of_power(expr, text)

    def _print_Pow(self, expr):
        if expr.exp == sp.Rational(1, 2):
            return f"torch.sqrt({self.tensor(expr.base)})"
        if expr.exp == sp.Rational(-1, 2):
            return f"torch.rsqrt({self.tensor(expr.base)})"
        if expr.exp in _WRITTEN_OUT and expr.base.is_Symbol:
            return "*".join([self._print(expr.base)] * int(expr.exp))
        return super()._print_Pow(expr)

    def _print_Guarded(self, expr):
        return f"torch.where({self._print(expr.args[1])}, {self._print(expr.args[0])}, 1)"

    def _print_Function(self, expr):
        name = type(expr).__name__
        if name in _FUNCTIONS:
            return f"torch.{_FUNCTIONS[name]}({self.tensor(expr.args[0])})"
        if name in _INVERSES:
            return f"(1/torch.{_INVERSES[name]}({self.tensor(expr.args[0])}))"
        if name in _ARCS:
            return f"torch.{_ARCS[name]}({self._print(1 / expr.args[0])})"
        if name == "factorial":
            return f"torch.exp(torch.lgamma({self._print(expr.args[0] + 1)}))"
        return self.emptyPrinter(expr)

    _print_Abs = _print_Function
    _print_ceiling = _print_Function
    _print_floor = _print_Function

    def _print_ExpBase(self, expr):
        return f"torch.exp({self.tensor(expr.args[0])})"

    def _print_Mod(self, expr):
        # SBML's rem has the sign of the dividend, as C's fmod. sympy's Mod has no sign rule here.
        return f"torch.fmod({self.tensor(expr.args[0])}, {self._print(expr.args[1])})"

    def _extreme(self, expr, tensors, numbers):
        parts = [arg for arg in expr.args if arg.free_symbols]
        text = self._print(parts[0])
        for part in parts[1:]:
            text = f"torch.{tensors}({text}, {self._print(part)})"
        for arg in expr.args:
            if not arg.free_symbols:
                text = f"torch.clamp({text}, {numbers}={self._print(arg)})"
        return text

    def _print_Max(self, expr):
        return self._extreme(expr, "maximum", "min")

    def _print_Min(self, expr):
        return self._extreme(expr, "minimum", "max")

    def _print_Piecewise(self, expr):
        text = None
        for value, condition in reversed(expr.args):
            if condition == sp.true:
                text = self.tensor(value)
                continue
            if text is None:
                text = f'torch.full_like({self.like}, float("nan"))'
            text = f"torch.where({self._print(condition)}, {self._print(value)}, {text})"
        return text

    def _print_Relational(self, expr):
        sign = RELATIONS[type(expr).__name__]
        left = self._print(expr.lhs)
        if not expr.rhs.free_symbols:
            left = self.tensor(expr.lhs)
        return f"({left} {sign} {self._print(expr.rhs)})"

    def _print_BooleanTrue(self, expr):
        return f"torch.ones_like({self.like}, dtype=torch.bool)"

    def _print_BooleanFalse(self, expr):
        return f"torch.zeros_like({self.like}, dtype=torch.bool)"

    def _print_And(self, expr):
        return f"({' & '.join(self._print(arg) for arg in expr.args)})"

    def _print_Or(self, expr):
        return f"({' | '.join(self._print(arg) for arg in expr.args)})"

    def _print_Xor(self, expr):
        return f"({' ^ '.join(self._print(arg) for arg in expr.args)})"

    def _print_Not(self, expr):
        return f"~{self._print(expr.args[0])}"


def identifiers(names: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """name -> Python name: the letters, with a number if another name has the same letters."""
    result: dict[str, str] = {}
    used = set(taken)
    for name in names:
        plain = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_") or "x"
        if plain[0].isdigit() or keyword.iskeyword(plain) or plain in used:
            plain += "_"
        unique = plain
        count = 2
        while unique in used or keyword.iskeyword(unique) or unique[0].isdigit():
            unique = f"v{plain}{count}"
            count += 1
        used.add(unique)
        result[name] = unique
    return result


@dataclass
class FunctionSource:
    """A function of tensors as text.

    name, arguments: of the function. vectors: argument -> names of its components, the last
    dimension. times: names that are arguments by themselves. definitions: name -> expression.
    """

    name: str
    vectors: Mapping[str, Sequence[str]]
    times: Mapping[str, str]
    definitions: Mapping[str, sp.Basic]
    arguments: Sequence[str] = ("t", "y", "p")
    like: str = "t"
    first: Collection[str] = ()
    share: bool = True
    has_rows: bool = False

    def text(self, outputs: Sequence[sp.Basic], labels: Sequence[str] | None = None) -> str:
        """The source of the function that returns the outputs as the last dimension.

        labels: names of the lines that compute the outputs.
        """
        order, shared, outputs = self._ordered(outputs)
        places = {
            name: (vector, i)
            for vector, components in self.vectors.items()
            for i, name in enumerate(components)
        }
        named = [name for name in order if name not in shared and name not in self.times]
        inputs = [name for name in named if name not in self.definitions]
        lost = [name for name in inputs if name not in places]
        if lost:
            raise ValueError(
                f"formulas of the model name {', '.join(lost)}, which it does not define"
            )
        inputs.sort(key=lambda name: (places[name][0] != "y", places[name]))
        parted = [vector for vector in self.vectors if _reads(inputs, places, vector) > MOST_SINGLE]
        parts = {vector: f"{vector}_parts" for vector in parted}
        reserved = [*self.arguments, *parts.values(), "torch", *shared]
        local = identifiers([*named, *(labels or ())], reserved)
        local |= {name: name for name in shared} | dict(self.times)
        printer = TorchPrinter(local, self.like, self.first)
        lines = [f"{text} = {vector}.unbind(-1)" for vector, text in parts.items()]
        for name in inputs:
            vector, i = places[name]
            if vector in parts:
                lines.append(f"{local[name]} = {parts[vector]}[{i}]")
            else:
                lines.append(f"{local[name]} = {vector}[..., {i}]")
        for name in order:
            if name not in self._whole:
                continue
            expression = self._whole[name]
            if expression.is_Symbol:
                # Another name of the same quantity needs no line.
                local[name] = local[expression.name]
            else:
                lines.append(f"{local[name]} = {printer.tensor(expression)}")
        results = []
        for i, output in enumerate(outputs):
            text = printer.tensor(output)
            if labels is not None and not output.is_Symbol:
                lines.append(f"{local[labels[i]]} = {text}")
                text = local[labels[i]]
            results.append(text)
        lines.append(self._stacked(outputs, results, places))
        head = f"def {self.name}({', '.join(self.arguments)}):"
        return "\n".join([head, *("    " + line for line in lines), ""])

    def _ordered(self, outputs):
        """(names in the order of their lines, common subexpressions, reduced outputs)."""
        needed = _in_order(outputs, self.definitions)
        inner = [name for name in needed if name in self.definitions]
        expressions = [with_guards(self.definitions[name]) for name in inner]
        outputs = [with_guards(output) for output in outputs]
        replaced: list = []
        reduced = [*expressions, *outputs]
        if self.share:
            fresh = (symbol(f"_{i}") for i in range(10**9))
            replaced, reduced = sp.cse(
                reduced, symbols=fresh, optimizations=None, order="none", list=True
            )
        shared = {str(name): expression for name, expression in replaced}
        self._whole = {**dict(zip(inner, reduced)), **shared}
        outputs = reduced[len(inner) :]
        order = _in_order(outputs, self._whole)
        return order, shared, outputs

    def _stacked(self, outputs, results, places):
        """The last line: all outputs side by side, in one shape."""
        inner = ", ".join(results)
        if not results:
            return f"return {self.like}.new_zeros({self.like}.shape + (0,))"
        self.has_rows = all(self._depends_on_state(output, places) for output in outputs)
        if self.has_rows:
            return f"return torch.stack(({inner}{',' * (len(results) == 1)}), dim=-1)"
        return f"return torch.stack(torch.broadcast_tensors({inner}), dim=-1)"

    def _depends_on_state(self, output, places):
        """Whether an output has the shape of the rows, because it depends on a state."""
        found = needed([output], self._whole)
        return any(name in places and places[name][0] == "y" for name in found)


def _reads(inputs: Sequence[str], places: Mapping[str, tuple[str, int]], vector: str) -> int:
    """How many components of a vector are among the inputs."""
    return sum(places[name][0] == vector for name in inputs)


def _in_order(outputs: Sequence[sp.Basic], definitions: Mapping[str, sp.Basic]) -> list[str]:
    """All names on which outputs depend. A name comes after the names in its definition. Raise
    ValueError for definitions in a circle."""
    order: list[str] = []
    done: set[str] = set()
    path: list[str] = []
    for output in outputs:
        todo = [iter(sorted(names([output])))]
        while todo:
            name = next(todo[-1], None)
            if name is None:
                todo.pop()
                if path:
                    done.add(path[-1])
                    order.append(path.pop())
            elif name in path:
                raise ValueError(
                    f"{' -> '.join([*path, name])}: the definitions go in a circle. Define one"
                    " of these quantities without the next one"
                )
            elif name not in done:
                path.append(name)
                inner: set[str] = set()
                if name in definitions:
                    inner = names([definitions[name]])
                todo.append(iter(sorted(inner)))
    return order


def compiled(source: str, name: str, file: str) -> Callable:
    """The function of a source text, whose lines tracebacks show."""
    scope: dict[str, Any] = {"torch": torch}
    exec(compile(source, file, "exec"), scope)
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    return scope[name]
