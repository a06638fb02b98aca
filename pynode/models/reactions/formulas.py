"""Expressions in the form that the torch source needs: numbers and truth values in their places."""

from __future__ import annotations

import sympy as sp
from sympy.logic.boolalg import Boolean

from .symbols import TIME


def as_number(expression: sp.Basic) -> sp.Expr:
    """The expression as a number: 1 and 0 for true and false."""
    if isinstance(expression, Boolean) and not expression.is_Symbol:
        return sp.Piecewise((sp.Integer(1), expression), (sp.Integer(0), True))
    return expression


def as_truth(expression: sp.Basic) -> sp.Basic:
    """The expression as a truth value: a number is true unless it is zero."""
    if isinstance(expression, sp.Piecewise) and _boolean_values(expression):
        return _chosen(expression)
    if isinstance(expression, Boolean) and not expression.is_Symbol:
        return expression
    if expression.is_number:
        return sp.sympify(expression != 0)
    return sp.Ne(expression, 0)


def plain(expression: sp.Basic) -> sp.Basic:
    """The expression with truth values only where they belong: no piecewise has them as values, and
    no relation compares them."""
    if not expression.args:
        return expression
    args = [plain(arg) for arg in expression.args]
    if isinstance(expression, sp.Piecewise):
        pairs = [tuple(arg.args) for arg in args]
        if any(isinstance(value, Boolean) and not value.is_Symbol for value, _ in pairs):
            return _chosen(sp.Piecewise(*pairs, evaluate=False))
        return sp.Piecewise(*((value, as_truth(condition)) for value, condition in pairs))
    if isinstance(expression, (sp.And, sp.Or, sp.Not, sp.Xor)):
        return expression.func(*(as_truth(arg) for arg in args))
    if isinstance(expression, sp.logic.boolalg.BooleanFunction):
        return plain(expression.func(*(as_truth(arg) for arg in args)).to_nnf(simplify=False))
    if isinstance(expression, sp.functions.elementary.piecewise.ExprCondPair):
        return sp.Tuple(*args)
    if all(new is old for new, old in zip(args, expression.args)):
        return expression
    return expression.func(*(as_number(arg) for arg in args))


def _boolean_values(expression):
    return any(isinstance(pair.args[0], Boolean) for pair in expression.args)


def _chosen(expression):
    """The truth value that a piecewise with truth values has."""
    result = sp.false
    for pair in reversed(expression.args):
        value, condition = pair.args
        condition = as_truth(condition)
        result = sp.Or(sp.And(condition, as_truth(value)), sp.And(sp.Not(condition), result))
    return result


def with_time(expression: sp.Basic, known: set[str]) -> sp.Basic:
    """The expression with the symbol of the time for "time" and "t", unless a quantity has that
    name."""
    pairs = {
        found: TIME
        for found in expression.free_symbols
        if found.name in ("time", "t") and found.name not in known
    }
    return expression.xreplace(pairs)
