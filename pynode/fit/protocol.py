"""What an estimation problem offers to ``pynode.fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..core.parameter_info import ParameterInfo


@runtime_checkable
class EstimationProblem(Protocol):
    """An estimation problem: parameters and the negative log-likelihood of their values.

    theta stands for the k parameters with ``estimate=True``, in the order of ``parameters`` and in
    their scales: a float64 tensor (k,). A theta that cannot be simulated has an infinite objective;
    no method raises an error for it.

    It may also offer:

    residuals(theta) -> (m,), differentiable, with |residuals|^2 / 2 = objective + constant. The
        Levenberg-Marquardt method needs it.
    curves(theta) -> as ``predictions``, at more times, for smooth pictures.
    objective_batch(thetas) -> (B,), the objective at many thetas, (B, k). gradient_batch(thetas),
        gauss_newton_batch(thetas): the same with derivatives, (B, k) and (B, k, k).
    batches_pay: whether all of these three exist and are faster than one theta after the other.
        The starts of one process then run side by side.
    freedom: what is known of estimated noise (fisher.Freedom); intervals are then Student's.
    fingerprint: a text that changes with the data and the model. A resumed run compares it.
    """

    @property
    def parameters(self) -> Sequence[ParameterInfo]:
        """All parameters, also those that are not estimated."""

    def objective(self, theta: Tensor) -> Tensor:
        """The negative log-likelihood plus minus the logarithms of the priors: 0-d,
        differentiable."""

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(objective, its gradient (k,)), plain tensors."""

    def gauss_newton(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(objective, gradient (k,), Gauss-Newton matrix (k, k)), plain tensors. The matrix is the
        Fisher information of the data, plus that of normal priors."""

    def predictions(self, theta: Tensor) -> Any:
        """A table of measured and simulated values: a ``Predictions``, or a table with its fields
        as columns (``as_predictions`` in prediction_bands.py)."""


@dataclass(frozen=True)
class Predictions:
    """Measured and simulated values, one entry for each of m values.

    observable, condition: (m,) names. time, measured, simulated, noise: (m,) tensors. measured is
    NaN where nothing was measured. noise: the standard deviation of the measurement; of its
    logarithm where logarithmic (m,) bool is True.
    """

    observable: Sequence[str]
    condition: Sequence[str]
    time: Tensor
    measured: Tensor
    simulated: Tensor
    noise: Tensor
    logarithmic: Tensor


def estimated(problem: EstimationProblem) -> list[ParameterInfo]:
    """The k parameters that theta stands for."""
    return [info for info in problem.parameters if info.estimate]
