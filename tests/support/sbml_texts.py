"""SBML made from Antimony and from libsbml's interface, for tests of what a file can say."""

from collections.abc import Callable
from typing import Any

import pytest

# Tests that import this module are skipped where a package of the extras sbml or antimony lacks.
_text = pytest.importorskip(
    "pynode.models.sbml_files.antimony_text",
    reason="models need libsbml, sbmlmath, sympy and antimony",
    exc_type=ImportError,
)
libsbml = pytest.importorskip("libsbml")
sympy = pytest.importorskip("sympy")
antimony = _text.antimony
sbml = _text.sbml
_source = pytest.importorskip("pynode.models.reactions.torch_source")
FormulaPrinter = _source.FormulaPrinter
FunctionSource = _source.FunctionSource
compiled = _source.compiled


def changed(text: str, change: Callable[[Any], object], level: tuple = ()) -> str:
    """The SBML of an Antimony text, converted to a (level, version), after change(model)."""
    document = libsbml.readSBMLFromString(_text.as_sbml(f"model m; {text}; end"))
    if level:
        assert document.setLevelAndVersion(*level, False)
    change(document.getModel())
    return libsbml.writeSBMLToString(document)


def converted(text: str, level: int, version: int) -> str:
    """The SBML of an Antimony text in a level and version."""
    return changed(text, lambda model: None, (level, version))


def add_algebraic(model: Any, formula: str) -> None:
    """Add an algebraic rule, formula = 0."""
    rule = model.createAlgebraicRule()
    assert rule.setMath(libsbml.parseL3Formula(formula)) == libsbml.LIBSBML_OPERATION_SUCCESS


def free(model: Any, *names: str) -> None:
    """Let quantities vary, so that algebraic rules can determine them."""
    for name in names:
        model.getElementBySId(name).setConstant(False)
