"""Continuous-depth models: thin modules over ``solve``."""

from .neural_ode import NeuralODE

__all__ = ["NeuralODE"]
