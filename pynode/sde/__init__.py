"""Stochastic differential equations: dy = f(t, y) dt + g(t, y) dW, Itô's."""

from .brownian import BrownianPath
from .schemes import SCHEMES
from .solve import SDESolution, solve_sde

__all__ = ["SCHEMES", "BrownianPath", "SDESolution", "solve_sde"]
