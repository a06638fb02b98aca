"""Continuous-depth models: thin modules over ``solve``."""

from .augmented import AugmentedODE
from .cnf import CNF
from .latent_ode import LatentODE
from .neural_ode import NeuralODE

__all__ = ["CNF", "AugmentedODE", "LatentODE", "NeuralODE"]
