"""Reaction models: what every format of a file becomes, and what every model can do."""

from importlib.util import find_spec

if find_spec("sympy") is None:
    raise ImportError("Models of reactions need sympy: pip install 'torch-stiff-ode[sbml]'.")
