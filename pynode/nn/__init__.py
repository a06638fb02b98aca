"""Continuous-depth models: thin modules over ``solve``."""

from .augmented import AugmentedODE
from .cnf import CNF
from .controlled_ode import ControlledODE
from .hybrid import HybridField
from .jump_ode import JumpODE
from .kinetics import CRNN, Arrhenius, RateConstants, ReactionNetwork
from .latent_ode import LatentODE
from .mechanics import HamiltonianField, LagrangianField
from .monitor import EvaluationMonitor
from .neural_cde import NeuralCDE
from .neural_ode import NeuralODE
from .neural_sde import NeuralSDE
from .paths import CubicHermitePath, LinearPath, RectilinearPath, ZeroOrderHold
from .regularisers import HigherDerivative, JacobianNorm, KineticEnergy, Stiffness

__all__ = [
    "CNF",
    "CRNN",
    "Arrhenius",
    "AugmentedODE",
    "ControlledODE",
    "CubicHermitePath",
    "EvaluationMonitor",
    "HamiltonianField",
    "HigherDerivative",
    "HybridField",
    "JacobianNorm",
    "JumpODE",
    "KineticEnergy",
    "LagrangianField",
    "LatentODE",
    "LinearPath",
    "NeuralCDE",
    "NeuralODE",
    "NeuralSDE",
    "RateConstants",
    "ReactionNetwork",
    "RectilinearPath",
    "Stiffness",
    "ZeroOrderHold",
]
