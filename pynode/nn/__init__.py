"""Continuous-depth models: thin modules over ``solve``."""

from .augmented import AugmentedODE
from .cnf import CNF
from .monitor import EvaluationMonitor
from .neural_ode import NeuralODE
from .regularisers import HigherDerivative, JacobianNorm, KineticEnergy, Stiffness

__all__ = [
    "CNF", "AugmentedODE", "EvaluationMonitor", "HigherDerivative", "JacobianNorm", "KineticEnergy", "NeuralODE", "Stiffness",
]
