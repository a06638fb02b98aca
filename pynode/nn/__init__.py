"""Continuous-depth models: thin modules over ``solve``."""

from .augmented import AugmentedODE
from .cnf import CNF
from .controlled_ode import ControlledODE
from .neural_cde import NeuralCDE
from .neural_ode import NeuralODE
from .neural_sde import NeuralSDE
from .paths import CubicHermitePath, LinearPath, RectilinearPath, ZeroOrderHold

__all__ = [
    "CNF", "AugmentedODE", "ControlledODE", "CubicHermitePath", "LinearPath", "NeuralCDE", "NeuralODE", "NeuralSDE",
    "RectilinearPath", "ZeroOrderHold",
]
