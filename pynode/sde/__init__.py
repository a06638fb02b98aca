"""Stochastic differential equations: dy = f(t, y) dt + g(t, y) dW, Itô's."""

from .brownian import BrownianPath
from .schemes import SCHEMES
from .solve import solve_sde

__all__ = ["SCHEMES", "BrownianPath", "solve_sde"]
