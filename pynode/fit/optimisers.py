"""The optimisers: fides, L-BFGS-B and Levenberg-Marquardt, as pypesto calls them. It needs
pypesto."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pypesto.optimize
import torch
from pypesto.C import MODE_RES
from pypesto.optimize.optimizer import minimize_decorator_collection

from ..train.least_squares import LevenbergMarquardt

NAMES = ("fides", "lbfgs", "lm")
TOLERANCE = 1e-6  # of the objective: a start ends where it changes by less
SMALL_GAINS = 2  # that many in a row end Levenberg-Marquardt


def optimiser(name: str, iterations: int = 500, tolerance: float = TOLERANCE) -> Any:
    """pypesto's optimiser of this name.

    'fides': a trust-region method with the Gauss-Newton matrix (Froehlich & Sorger, PLoS Comput.
    Biol. 18 (2022)). 'lbfgs': SciPy's L-BFGS-B, which needs only gradients. 'lm': the
    Levenberg-Marquardt method of ``pynode.train``, for problems with residuals. iterations: the
    most of them. tolerance: it ends where the objective changes by less. Raises ValueError for
    another name.
    """
    if name == "fides":
        options = {"maxiter": iterations, "fatol": tolerance, "frtol": 0.0, "gatol": 1e-5}
        return pypesto.optimize.FidesOptimizer(
            hessian_update=None, options=options, verbose=logging.ERROR
        )
    if name == "lbfgs":
        # L-BFGS-B compares the change with the objective itself.
        options = {"maxiter": iterations, "maxfun": 10 * iterations, "ftol": 1e-6 * tolerance}
        return pypesto.optimize.ScipyOptimizer(method="L-BFGS-B", options=options)
    if name == "lm":
        return LevenbergMarquardtOptimizer(iterations, tolerance)
    raise ValueError(f"unknown optimiser {name!r}: choose one of {', '.join(NAMES)}")


class LevenbergMarquardtOptimizer(pypesto.optimize.Optimizer):
    """The Levenberg-Marquardt method of ``pynode.train`` inside bounds.

    A bounded parameter is x = lower + (upper - lower) (1 + sin u) / 2, where u is free (James &
    Roos, Comput. Phys. Commun. 10 (1975), MINUIT).
    """

    def __init__(self, iterations: int = 500, tolerance: float = TOLERANCE) -> None:
        super().__init__()
        self.iterations = iterations
        self.tolerance = tolerance

    def __repr__(self) -> str:
        return f"<LevenbergMarquardtOptimizer iterations={self.iterations}>"

    def is_least_squares(self) -> bool:
        """False: it returns the value of the objective."""
        return False

    @minimize_decorator_collection
    def minimize(
        self,
        problem: Any,
        x0: np.ndarray | None = None,
        id: str | None = None,
        history_options: Any = None,
        optimize_options: Any = None,
    ) -> Any:
        """Minimise from x0. Raises ValueError for an objective without residuals."""
        objective = problem.objective
        if not objective.check_mode(MODE_RES):
            raise ValueError(
                "this problem has no residuals, which Levenberg-Marquardt needs: choose the"
                " optimiser fides or lbfgs"
            )
        middle = torch.from_numpy(0.5 * (problem.lb + problem.ub))
        half = torch.from_numpy(0.5 * (problem.ub - problem.lb))
        # Just inside: at a bound the derivative in u is zero.
        place = ((torch.from_numpy(np.asarray(x0)) - middle) / half).clamp(-0.9999, 0.9999)
        u = torch.asin(place).requires_grad_()

        def residuals() -> torch.Tensor | None:
            x = middle + half * torch.sin(u)
            point = x.detach().numpy()
            if not torch.is_grad_enabled():
                found = torch.from_numpy(objective.get_res(point))
                return _finite(found)
            found, slopes = map(torch.from_numpy, objective(point, (0, 1), MODE_RES))
            if _finite(found) is None:
                return None
            return found + slopes @ (x - x.detach())

        message = "The limit on iterations was reached."
        steps = LevenbergMarquardt([u], batched=True)
        small = 0
        before = np.inf
        for _ in range(self.iterations):
            if not steps.step(residuals):
                message = "No step lowers the objective."
                break
            # The objective is half of the cost.
            if before - steps.cost < 2 * self.tolerance:
                small += 1
            else:
                small = 0
            before = steps.cost
            if small == SMALL_GAINS:
                message = "The objective no longer changes."
                break
        best = (middle + half * torch.sin(u.detach())).numpy()
        return pypesto.result.OptimizerResult(
            x=best,
            fval=objective.get_fval(best),
            grad=None,
            exitflag=0,
            message=message,
            optimizer=str(self),
        )


def _finite(values):
    """The values, or None if one of them is not finite."""
    if bool(torch.isfinite(values).all()):
        return values
    return None
