"""An SBML document: read, checked for what it requires, and made flat."""

from __future__ import annotations

import os
from pathlib import Path

import libsbml

from ..reactions.refusal import UnsupportedFeature

# Packages that have no mathematics, or whose mathematics pynode reads. A file that requires another
# one is refused.
_READ = {"comp", "l3v2extendedmath", "layout", "render", "groups"}


def document_of(source: str | os.PathLike) -> libsbml.SBMLDocument:
    """The document of a file, or of a text that begins with "<", with submodels, function
    definitions and units resolved. Raise ValueError for a file that is no SBML."""
    text = os.fspath(source)
    if text.lstrip().startswith("<"):
        document = libsbml.readSBMLFromString(text)
    else:
        if not Path(text).is_file():
            raise FileNotFoundError(f"there is no file {text!r}")
        document = libsbml.readSBMLFromFile(text)
    _raise_errors(document, "the file is no valid SBML")
    if document.getModel() is None:
        raise ValueError("the SBML file has no model")
    _check_packages(document)
    if document.getPlugin("comp") is not None:
        _flatten(document)
    _expand_functions(document)
    return document


def _raise_errors(document, what):
    errors = [
        document.getError(i)
        for i in range(document.getNumErrors())
        if document.getError(i).getSeverity() >= libsbml.LIBSBML_SEV_ERROR
    ]
    if errors:
        lines = "; ".join(
            f"line {error.getLine()}: {error.getMessage().strip()}" for error in errors[:3]
        )
        raise ValueError(f"{what}: {lines}")


def _check_packages(document):
    """Raise UnsupportedFeature for a package that changes the mathematics and is not read."""
    if document.getLevel() < 3:
        return
    names = []
    for i in range(document.getNumPlugins()):
        name = document.getPlugin(i).getPackageName()
        if name not in _READ and document.getPackageRequired(name):
            names.append(name)
    for i in range(document.getNumUnknownPackages()):
        if document.getUnknownPackageRequired(i):
            names.append(document.getUnknownPackagePrefix(i))
    fluxes = document.getModel().getPlugin("fbc")
    if fluxes is not None and fluxes.getNumObjectives():
        raise UnsupportedFeature(
            "flux balance analysis (the package 'fbc' with an objective)",
            "a linear programme determines the fluxes, not differential equations",
        )
    for name in names:
        raise UnsupportedFeature(
            f"the package {name!r} of SBML", "the file says that the mathematics needs it"
        )


def _flatten(document):
    """Replace submodels by their contents."""
    options = {"flatten comp": True, "leavePorts": False, "performValidation": False}
    _convert(document, options, "libsbml cannot flatten the submodels of this file")


def _expand_functions(document):
    """Replace calls of functions that the file defines."""
    name = "expandFunctionDefinitions"
    _convert(document, {name: True}, f"libsbml's conversion {name!r} failed")


def _convert(document, options, failure):
    properties = libsbml.ConversionProperties()
    for name, value in options.items():
        properties.addOption(name, value)
    if document.convert(properties) != libsbml.LIBSBML_OPERATION_SUCCESS:
        _raise_errors(document, failure)
        raise ValueError(failure)
