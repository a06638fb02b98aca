"""Expressions as text: brackets, signs and fractions as people write them."""

from __future__ import annotations

import math
from collections.abc import Collection

import sympy as sp
from sympy.printing.printer import Printer

from .symbols import TIME

RELATIONS = {
    "StrictGreaterThan": ">",
    "StrictLessThan": "<",
    "GreaterThan": ">=",
    "LessThan": "<=",
    "Equality": "==",
    "Unequality": "!=",
}


def number(value: sp.Expr | float) -> str:
    """A number with all digits that a float has."""
    if isinstance(value, sp.Integer) and abs(int(value)) < 2**53:
        return str(int(value))
    if isinstance(value, sp.Rational):
        return repr(int(value.p) / int(value.q))
    if value is sp.zoo:
        return repr(math.inf)
    return repr(_real(value))


def _real(value: sp.Expr | float) -> float:
    """A constant expression as a float: NaN where it is not real."""
    if isinstance(value, float):
        return value
    try:
        return float(value.evalf(25))
    except TypeError:
        return math.nan


class FormulaPrinter(Printer):
    """An expression as mathematics: k1*A^2.

    first: names that stand first in a product, the constants.
    """

    power = "^"
    conjunction = " && "
    disjunction = " || "
    printmethod = "_formula"

    def __init__(self, first: Collection[str] = ()) -> None:
        super().__init__()
        self.first = first

    def _print(self, expr, **kwargs):
        if isinstance(expr, sp.Expr) and not expr.free_symbols and not expr.is_Piecewise:
            return self.number(expr)
        return super()._print(expr, **kwargs)

    def number(self, value: sp.Expr) -> str:
        """A number."""
        return number(value)

    def bracketed(self, expr: sp.Basic, loosest: int) -> str:
        """The expression, in brackets if it binds less than the level: 1 for a sum, 2 for a
        product, 3 for a power."""
        text = self._print(expr)
        if self._binding(expr, text) < loosest:
            return f"({text})"
        return text

    def _binding(self, expr, text):
        """How much the text of the expression binds: 1 a sum, 2 a product, 3 a power, 4 an atom."""
        if text.startswith("-") or isinstance(expr, sp.Add):
            return 1
        if isinstance(expr, sp.Mul):
            return 2
        if isinstance(expr, sp.Pow) and expr.free_symbols:
            return self._binding_of_power(expr, text)
        return 4

    def _binding_of_power(self, expr, text):
        if text.startswith("1/"):
            return 2
        return 3

    def _print_Symbol(self, expr):
        if expr == TIME:
            return "time"
        return expr.name

    def _print_Add(self, expr):
        parts = [self._print(term) for term in expr.args]
        # Terms that are added stand before those that are subtracted.
        parts.sort(key=lambda text: text.startswith("-"))
        text = parts[0]
        for part in parts[1:]:
            if part.startswith("-"):
                text += f" - {part[1:]}"
            else:
                text += f" + {part}"
        return text

    def _print_Mul(self, expr):
        coefficient, rest = expr.as_coeff_Mul()
        above = []
        below = []
        for factor in sp.Mul.make_args(rest):
            exponent = factor.as_base_exp()[1]
            if exponent.is_Rational and exponent.is_negative and factor.free_symbols:
                below.append(1 / factor)
            else:
                above.append(factor)
        above.sort(key=lambda factor: not (factor.is_Symbol and factor.name in self.first))
        texts = [self.bracketed(factor, 2) for factor in above]
        if abs(coefficient) != 1 or not texts:
            texts.insert(0, self.number(abs(coefficient)))
        text = "*".join(texts)
        if coefficient.is_negative:
            text = f"-{text}"
        if len(below) == 1:
            text += f"/{self.bracketed(below[0], 3)}"
        elif below:
            text += f"/({'*'.join(self.bracketed(part, 2) for part in below)})"
        return text

    def _print_Pow(self, expr):
        if expr.exp == -1:
            return f"1/{self.bracketed(expr.base, 3)}"
        return f"{self.bracketed(expr.base, 4)}{self.power}{self.bracketed(expr.exp, 4)}"

    def _print_Function(self, expr):
        name = {"log": "ln", "Abs": "abs"}.get(type(expr).__name__, type(expr).__name__.lower())
        return f"{name}({', '.join(self._print(arg) for arg in expr.args)})"

    _print_Max = _print_Function
    _print_Min = _print_Function

    def _print_ExpBase(self, expr):
        return f"exp({self._print(expr.args[0])})"

    def _print_Piecewise(self, expr):
        parts = []
        for value, condition in expr.args:
            parts.append(self._print(value))
            if condition != sp.true:
                parts.append(self._print(condition))
        return f"piecewise({', '.join(parts)})"

    def _print_Relational(self, expr):
        sign = RELATIONS[type(expr).__name__]
        return f"{self._print(expr.lhs)} {sign} {self._print(expr.rhs)}"

    def _joined(self, expr, sign):
        parts = []
        for arg in expr.args:
            text = self._print(arg)
            if arg.args:
                text = f"({text})"
            parts.append(text)
        return sign.join(parts)

    def _print_And(self, expr):
        return self._joined(expr, self.conjunction)

    def _print_Or(self, expr):
        return self._joined(expr, self.disjunction)

    def _print_Xor(self, expr):
        return f"xor({', '.join(self._print(arg) for arg in expr.args)})"

    def _print_Not(self, expr):
        return f"!({self._print(expr.args[0])})"

    def _print_BooleanTrue(self, expr):
        return "true"

    def _print_BooleanFalse(self, expr):
        return "false"
