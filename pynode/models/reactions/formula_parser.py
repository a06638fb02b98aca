"""Formula texts as expressions."""

from __future__ import annotations

import libsbml
import sympy as sp

from ..sbml_files.mathematics import expression_of


def parse(formula: str | sp.Basic | float) -> sp.Basic:
    """A formula as an expression of real symbols: the infix of SBML Level 3, where log is the
    natural logarithm, as in PEtab. Expressions and numbers stay as they are. Raise ValueError for a
    text that is no formula."""
    if isinstance(formula, (sp.Basic, int, float)):
        return sp.sympify(formula)
    settings = libsbml.L3ParserSettings()
    settings.setParseLog(libsbml.L3P_PARSE_LOG_AS_LN)
    tree = libsbml.parseL3FormulaWithSettings(formula.replace("**", "^"), settings)
    if tree is None:
        raise ValueError(f"{formula!r} is no formula: {libsbml.getLastParseL3Error().strip()}")
    return expression_of(tree)
