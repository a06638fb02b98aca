"""SBML made from Antimony and from libsbml's interface, for tests of what a file can say."""

from collections.abc import Callable

import libsbml

from pynode.models.sbml_files.antimony_text import as_sbml


def changed(text: str, change: Callable[[libsbml.Model], object], level: tuple = ()) -> str:
    """The SBML of an Antimony text, converted to a (level, version), after change(model)."""
    document = libsbml.readSBMLFromString(as_sbml(f"model m; {text}; end"))
    if level:
        assert document.setLevelAndVersion(*level, False)
    change(document.getModel())
    return libsbml.writeSBMLToString(document)


def converted(text: str, level: int, version: int) -> str:
    """The SBML of an Antimony text in a level and version."""
    return changed(text, lambda model: None, (level, version))


def add_algebraic(model: libsbml.Model, formula: str) -> None:
    """Add an algebraic rule, formula = 0."""
    rule = model.createAlgebraicRule()
    assert rule.setMath(libsbml.parseL3Formula(formula)) == libsbml.LIBSBML_OPERATION_SUCCESS


def free(model: libsbml.Model, *names: str) -> None:
    """Let quantities vary, so that algebraic rules can determine them."""
    for name in names:
        model.getElementBySId(name).setConstant(False)
