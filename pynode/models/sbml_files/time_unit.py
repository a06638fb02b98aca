"""The unit of the time of an SBML model (Level 3, sec. 4.2.4 and 4.4)."""

from __future__ import annotations

import math

import libsbml

# Seconds of the units that people use.
UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def time_unit_of(model: libsbml.Model) -> str:
    """The unit of the time as the file declares it, such as 'h'. '' where it declares none, or one
    that is no usual multiple of a second."""
    declared = "time"
    if model.isSetTimeUnits():
        declared = model.getTimeUnits()
    if declared == "second":
        return "s"
    definition = model.getUnitDefinition(declared)
    if definition is None or definition.getNumUnits() != 1:
        return ""
    unit = definition.getUnit(0)
    if not unit.isSecond() or unit.getExponentAsDouble() != 1.0:
        return ""
    seconds = unit.getMultiplier() * 10.0 ** unit.getScale()
    for name, size in UNITS.items():
        if math.isclose(seconds, size, rel_tol=1e-9):
            return name
    return ""
