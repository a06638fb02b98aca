"""Formulas of SBML as sympy expressions, by the package sbmlmath."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libsbml
import sbmlmath
import sympy as sp
from sympy.core.function import AppliedUndef

from ..reactions.formulas import plain
from ..reactions.refusal import UnsupportedFeature
from ..reactions.symbols import TIME, rate_of, symbol

_URLS = "http://www.sbml.org/sbml/symbols/"


class _Parser(sbmlmath.SBMLMathMLParser):
    """The parser with other names for the local parameters of a reaction."""

    def __init__(self, local: Mapping[str, str], **options: Any) -> None:
        super().__init__(ignore_units=True, symbol_kwargs={"real": True}, evaluate=True, **options)
        self.local = local

    def preprocess_symbol_name(self, name, element):
        return self.local.get(name, name)

    def handle_cn(self, element):
        # The digits as they are written: 1.5e-4 is 15/100000.
        if element.attrib.get("type") == "e-notation":
            return sp.Rational(f"{element.text.strip()}e{element[0].tail.strip()}")
        return super().handle_cn(element)


def expression_of(tree: libsbml.ASTNode, local: Mapping[str, str] | None = None) -> sp.Basic:
    """A formula as an expression of real symbols.

    local: name of a local parameter -> name in the model. Raise UnsupportedFeature for delay() and
    other functions that no state determines.
    """
    owner = tree.getParentSBMLObject()
    level = 3
    version = 2
    if owner is not None:
        level = owner.getLevel()
        version = owner.getVersion()
    text = libsbml.writeMathMLWithNamespaceToString(tree, libsbml.SBMLNamespaces(level, version))
    parser = _Parser(local or {}, sbml_level=level, sbml_version=version)
    return plain(_without_csymbols(parser.parse_str(text)))


def _without_csymbols(expression):
    """The time, Avogadro's number and derivatives as symbols and numbers."""
    pairs = {}
    for found in expression.atoms(sbmlmath.CSymbol):
        if found.definition_url == _URLS + "time":
            pairs[found] = TIME
        elif found.definition_url == _URLS + "avogadro":
            pairs[found] = sp.Rational("6.02214179e23")
        else:
            raise UnsupportedFeature(f"the symbol {found.name}", "write the model without it")
    for call in expression.atoms(AppliedUndef):
        url = getattr(call.func, "definition_url", "")
        if url == _URLS + "rateOf":
            pairs[call] = symbol(rate_of(call.args[0].name))
        elif url == _URLS + "delay":
            raise UnsupportedFeature(
                "delay()", "delay equations need the past of the state, which no solver here keeps"
            )
        else:
            raise UnsupportedFeature(
                f"the function {call.func.__name__}()", "write the model without it"
            )
    return expression.xreplace(pairs)
