"""Continuous-depth models: thin modules over ``solve``."""

from .augmented import AugmentedODE
from .cnf import CNF
from .hybrid import HybridField
from .jump_ode import JumpODE
from .kinetics import CRNN, Arrhenius, RateConstants, ReactionNetwork
from .mechanics import HamiltonianField, LagrangianField
from .monitor import EvaluationMonitor
from .neural_ode import NeuralODE
from .regularisers import HigherDerivative, JacobianNorm, KineticEnergy, Stiffness

__all__ = [
    "CNF", "CRNN", "Arrhenius", "AugmentedODE", "EvaluationMonitor", "HamiltonianField", "HigherDerivative", "HybridField",
    "JacobianNorm", "JumpODE", "KineticEnergy", "LagrangianField", "NeuralODE", "RateConstants", "ReactionNetwork",
    "Stiffness",
]
