"""Backward differentiation formulas of variable step: QNDF, FBDF and ABDF2."""
