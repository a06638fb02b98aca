"""Branches of piecewise formulas that must not be computed where they are not taken.

torch.where computes all branches. A branch that is not taken may be infinite or NaN there. Then the
value is right, but the derivative is NaN. Such parts are powers and logarithms. They get the
argument 1 where their branch is not taken.
"""

from __future__ import annotations

import sympy as sp

_RISKY = (sp.log, sp.asin, sp.acos, sp.acosh, sp.atanh)


class Guarded(sp.Function):
    """Guarded(x, condition): x where the condition holds, and 1 elsewhere."""

    nargs = 2


def with_guards(expression: sp.Basic) -> sp.Basic:
    """The expression with guarded branches."""
    if not expression.has(sp.Piecewise):
        return expression
    return expression.replace(lambda part: part.is_Piecewise, _guarded_branches)


def _guarded_branches(expression: sp.Piecewise) -> sp.Basic:
    pairs = []
    before: list[sp.Basic] = []
    for value, condition in expression.args:
        taken = sp.And(condition, *(sp.Not(other) for other in before))
        before.append(condition)
        pairs.append((_guarded(value, taken), condition))
    return sp.Piecewise(*pairs, evaluate=False)


def _guarded(value: sp.Basic, taken: sp.Basic) -> sp.Basic:
    if taken == sp.true or taken == sp.false:
        return value
    return value.replace(
        _is_risky,
        lambda part: part.func(Guarded(part.args[0], taken), *part.args[1:]),
    )


def _is_risky(part: sp.Basic) -> bool:
    """Whether the function or the derivative is not finite at some argument."""
    if not part.args or not part.args[0].free_symbols or isinstance(part.args[0], Guarded):
        return False
    if part.is_Pow:
        return not (part.exp.is_Integer and part.exp > 0)
    return isinstance(part, _RISKY)
