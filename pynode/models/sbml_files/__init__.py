"""SBML and Antimony: files of systems biology as reaction models."""

from importlib.util import find_spec

_missing = [name for name in ("libsbml", "sbmlmath", "sympy") if find_spec(name) is None]
if _missing:
    raise ImportError(
        f"Models in SBML need {' and '.join(_missing)}: pip install 'torch-stiff-ode[sbml]'."
    )
