"""An estimation problem as pypesto's objective and problem. It needs pypesto."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
from typing import Any

import cloudpickle
import numpy as np
import pypesto
import torch
from pypesto.C import FVAL, GRAD, HESS, MODE_FUN, MODE_RES, RES, SRES

from ..core.memory import raise_if_exhausted
from ..core.parameter_info import to_scale
from ..core.status import SolveError
from .protocol import EstimationProblem, estimated

MOST_SHARED = 4  # problems that a process keeps


class Stopped(KeyboardInterrupt):
    """The estimation was asked to end."""


class ModelBroken(ValueError):
    """The model raised an error in the middle of a search."""


class Objective(pypesto.objective.ObjectiveBase):
    """The objective of an estimation problem at theta = centre + unit * x.

    centre, unit: (k,) arrays. stop: a file; as soon as it exists, evaluations raise Stopped. Copies
    share the estimation problem, and so its compiled code.
    """

    def __init__(
        self,
        estimation: EstimationProblem,
        centre: np.ndarray | None = None,
        unit: np.ndarray | None = None,
        stop: str | None = None,
    ) -> None:
        names = [info.name for info in estimated(estimation)]
        super().__init__(x_names=names)
        self.estimation = estimation
        self.centre = np.zeros(len(names))
        if centre is not None:
            self.centre = centre
        self.unit = np.ones(len(names))
        if unit is not None:
            self.unit = unit
        self.stop = stop

    def check_sensi_orders(self, sensi_orders: tuple[int, ...], mode: str) -> bool:
        """Whether these derivatives exist."""
        most = max(sensi_orders, default=0)
        if mode == MODE_FUN:
            return most <= 2
        return most <= 1 and hasattr(self.estimation, "residuals")

    def check_mode(self, mode: str) -> bool:
        """Whether values (MODE_FUN) or residuals (MODE_RES) exist."""
        return mode == MODE_FUN or hasattr(self.estimation, "residuals")

    def call_unprocessed(
        self,
        x: np.ndarray,
        sensi_orders: tuple[int, ...],
        mode: str,
        return_dict: bool,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Values and derivatives at x, as pypesto wants them."""
        if self.stop is not None and os.path.exists(self.stop):
            raise Stopped
        theta = torch.from_numpy(self.centre + self.unit * np.asarray(x, dtype=np.float64))
        try:
            if mode == MODE_RES:
                return self._residuals(theta, 1 in sensi_orders)
            return self._values(theta, max(sensi_orders, default=0))
        except SolveError:
            k = len(theta)
            return {FVAL: np.inf, GRAD: np.zeros(k), HESS: np.zeros((k, k))}
        except RuntimeError as error:
            raise_if_exhausted(error)
            # Optimisers take a RuntimeError for the end of their start, and say nothing.
            raise ModelBroken(f"the model cannot be evaluated: {error}") from error

    def _values(self, theta, most):
        """The value and its derivatives up to this order."""
        if most == 0:
            with torch.no_grad():
                return {FVAL: float(self.estimation.objective(theta))}
        if most == 1:
            value, grad = self.estimation.gradient(theta)
            return {FVAL: float(value), GRAD: grad.numpy() * self.unit}
        value, grad, matrix = self.estimation.gauss_newton(theta)
        scale = np.outer(self.unit, self.unit)
        return {FVAL: float(value), GRAD: grad.numpy() * self.unit, HESS: matrix.numpy() * scale}

    def _residuals(self, theta, slopes):
        residuals = self.estimation.residuals
        try:
            if not slopes:
                with torch.no_grad():
                    return {RES: residuals(theta).numpy()}
            with torch.enable_grad():
                theta.requires_grad_()
                found = residuals(theta)
        except SolveError:
            return {RES: np.array([np.inf]), SRES: np.zeros((1, len(theta)))}
        unit = torch.eye(len(found), dtype=found.dtype)
        (jacobian,) = torch.autograd.grad(found, theta, unit, is_grads_batched=True)
        return {RES: found.detach().numpy(), SRES: jacobian.numpy() * self.unit}

    def __deepcopy__(self, memo: dict[int, Any]) -> Objective:
        memo[id(self.estimation)] = self.estimation
        made = Objective.__new__(Objective)
        for name, value in vars(self).items():
            setattr(made, name, copy.deepcopy(value, memo))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # The problem as bytes: tasks that reach one process share what the first of them made.
        plain = {name: value for name, value in vars(self).items() if name != "estimation"}
        return _restored, (cloudpickle.dumps(self.estimation), plain)


def _restored(content: bytes, plain: dict[str, Any]) -> Objective:
    made = Objective.__new__(Objective)
    made.__dict__.update(plain)
    made.estimation = _shared(hashlib.sha256(content).hexdigest(), _Bytes(content))
    return made


class _Bytes:
    """Bytes that a cache does not compare: their hash is its key."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=MOST_SHARED)
def _shared(key: str, content: _Bytes) -> Any:
    torch.set_num_threads(1)
    return cloudpickle.loads(content.content)


def limits(estimation: EstimationProblem) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) bounds of theta, (k,)."""
    infos = estimated(estimation)
    lower = [to_scale(info.lower, info.scale) for info in infos]
    upper = [to_scale(info.upper, info.scale) for info in infos]
    return np.array(lower), np.array(upper)


def pypesto_problem(
    estimation: EstimationProblem,
    centre: np.ndarray | None = None,
    unit: np.ndarray | None = None,
    stop: str | None = None,
    guesses: np.ndarray | None = None,
) -> Any:
    """pypesto's Problem in the coordinates x of theta = centre + unit * x. guesses: (g, k) starts,
    x."""
    objective = Objective(estimation, centre, unit, stop)
    lower, upper = limits(estimation)
    return pypesto.Problem(
        objective,
        (lower - objective.centre) / objective.unit,
        (upper - objective.centre) / objective.unit,
        x_guesses=guesses,
        x_names=[info.name for info in estimated(estimation)],
    )
