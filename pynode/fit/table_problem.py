"""An estimation problem of a model and a table of measurements."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.parameter_info import ParameterInfo, Prior, Scale, Scales
from ..core.status import SolveError
from ..data import Dataset
from ..train.report import fine_times
from .fisher import Freedom
from .initial_states import InitialStates
from .likelihood import Errors, fisher, infinite, negative_log_likelihood
from .measurements import Measurements
from .named_models import named_model
from .noise_model import NoiseModel
from .observation import Observation
from .protocol import Predictions
from .simulation import Simulator
from .table_parameters import Wishes, initial_parameters, model_parameters, noise_parameters
from .tables import Table, as_table, read_table
from .times import common_grid

LEAST_ATOL = 1e-3  # atol in units of rtol and the size of the state


class TableProblem:
    """Estimates the parameters of a model from a table; it fits ``EstimationProblem``.

    model: an nn.Module f(t, y, *conditions) with named parameters, a function f(t, y, k1, k2), or a
        model of ``pynode.models``. A state y is (n,); a module that takes rows alone serves too.
    data: a CSV file, a ``Table``, or observations of ``pynode.data``. The first line of a run is
        its initial state, exact and no measurement, unless ``initial`` says otherwise or the model
        makes initial states itself, as those of ``pynode.models`` do.
    estimate: names of the parameters to estimate; by default all of a module or a function, and
        those of a model of ``pynode.models`` that ``learn=`` or ``bounds`` names.
    bounds: {name: (lower, upper)}. By default a factor 1000 around a positive value, and 10 times
        the size of another one, at least 10. The name of a tensor stands for all its numbers.
    scales: {name: 'lin', 'log' or 'log10'}. By default 'log10' if the lower bound is positive.
    priors: {name: Prior}. start: {name: value}, where the model's own value does not serve.
    conditions: columns that are constant in a run, such as a temperature. The model gets them as
        further arguments, after y; a model of ``pynode.models`` as its constants.
    initial: {state: value or 'estimate'}. An unknown initial value is a parameter, init(A); with
        several runs each has its own, init(A)[run].
    noise: a standard deviation or 'estimate' (parameters sigma(A)), for all columns or by name.
    relative: columns whose errors are relative: their logarithm has normal errors.
    method, rtol, atol, backend, max_steps: of the solves, as for ``pynode.solve``. backend='auto'
        takes native code where it serves. By default atol is 1e-3 rtol times the size of a state.

    Raises DataError for a table that cannot be used, ValueError for names that do not fit.
    """

    def __init__(
        self,
        model: Any,
        data: str | PathLike[str] | Table | Dataset,
        *,
        estimate: Sequence[str] | None = None,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        scales: Mapping[str, Scale] | None = None,
        priors: Mapping[str, Prior] | None = None,
        start: Mapping[str, float] | None = None,
        conditions: Sequence[str] = (),
        initial: Mapping[str, float | str] | None = None,
        noise: float | str | Mapping[str, float | str] = "estimate",
        relative: Collection[str] = (),
        method: str = "auto",
        rtol: float = 1e-6,
        atol: float | Tensor | None = None,
        backend: str = "auto",
        max_steps: int = 10_000,
    ) -> None:
        if isinstance(data, (str, PathLike)):
            data = read_table(Path(data), conditions=conditions)
        self.table = table = as_table(data, conditions)
        self.model = named_model(model, table.conditions)
        wishes = Wishes(bounds or {}, scales or {}, priors or {}, start or {})
        if estimate is None:
            names = [x for x in self.model.names if x in {*self.model.proposed, *wishes.bounds}]
        else:
            names = list(estimate)
        infos = model_parameters(self.model, names, wishes)
        self._free = len(infos)
        self.initial = InitialStates(self.model, table, initial or {})
        unknown = initial_parameters(
            table, self.initial.states, self.initial.unknown, self.initial.base, wishes
        )
        self._unknown = [(x.run, x.state) for x in unknown]
        noises = noise_parameters(table, noise, relative, self.initial.measured, wishes)
        infos += [x.info for x in unknown]
        infos += [x.info for x in noises if x.info is not None]
        wishes.check([info.name for info in infos], self.model.names)
        if not infos or (estimate is None and self.model.names and not names and not unknown):
            raise ValueError(
                "there is nothing to estimate: name parameters of the model, such as"
                f" {', '.join(self.model.names[:3])} (estimate, --estimate)"
            )
        self._parameters = tuple(infos)
        self._scales = Scales(tuple(info.scale for info in infos))
        grid, places = common_grid([run.t for run in table.runs])
        seen = Measurements.of(table, places, self.initial.measured, [x.relative for x in noises])
        self.noise = NoiseModel(noises, [info.name for info in infos], seen)
        if atol is None:
            atol = LEAST_ATOL * rtol * self.initial.sizes(table, self.noise.relative.tolist())
        sample = self.initial.base[0].nan_to_num(1.0)
        self.bound = self.model.bind(names, table.conditions, table.columns, sample)
        self.simulator = Simulator(
            self.model, self.bound, grid, self.initial.given, method, rtol, atol, backend, max_steps
        )
        picked = None
        if self.model.observables is None and not self.model.has_initial:
            picked = self.initial.places(table.columns)
        self.observation = Observation(self.bound, self.initial.given, picked)
        self._settings = repr((method, rtol, backend, max_steps, self.initial.known, noises))

    @property
    def parameters(self) -> tuple[ParameterInfo, ...]:
        """All parameters: of the model, then initial values, then standard deviations."""
        return self._parameters

    def trained_model(self, values: Mapping[str, float]) -> Any:
        """A copy of the model with estimated numbers, by name, as the result of ``fit`` has them: a
        module with its parameters, a hybrid model with the weights of its networks. Raises
        TypeError for a function, which keeps no numbers."""
        return self.model.trained(values)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the table, the parameters and the settings."""
        digest = hashlib.sha256(self.table.fingerprint.encode())
        digest.update(repr((self._parameters, self._settings)).encode())
        digest.update(self.model.values.numpy().tobytes())
        return digest.hexdigest()

    @property
    def freedom(self) -> Freedom | None:
        """What is known of the noise, if a part of it is estimated."""
        return self.noise.freedom

    @property
    def engine(self) -> str:
        """In one sentence, on which engine the solves run."""
        if self.simulator.engine == "native":
            return "Engine: native code."
        return f"Engine: {self.simulator.engine}. {self.simulator.reason}".rstrip(" .") + "."

    def objective(self, theta: Tensor) -> Tensor:
        """The negative log-likelihood plus minus the logarithms of the priors, 0-d, differentiable
        once; infinite where a solve fails."""
        return self.objective_batch(theta.unsqueeze(0)).squeeze(0)

    def objective_batch(self, thetas: Tensor) -> Tensor:
        """The objectives of several theta, (B, k) -> (B,), differentiable once. All runs of all
        theta are one batch, where rows of a batch can have parameters of their own. A theta for
        which a solve fails has the objective infinity."""
        thetas = thetas.to(torch.float64)
        if len(thetas) > 1 and self.bound.shares_parameters:
            return torch.cat([self.objective_batch(one.unsqueeze(0)) for one in thetas])
        values = self._scales.values(thetas)
        try:
            simulated = self._simulated(values)
        except SolveError:
            if len(thetas) == 1:
                # The sum keeps the graph, with the gradient zero.
                return thetas.sum(-1) * 0 + math.inf
            return torch.cat([self.objective_batch(part) for part in thetas.tensor_split(2)])
        errors = self.noise.errors(simulated, values)
        value = negative_log_likelihood(errors) + self._minus_log_priors(thetas)
        return torch.where(torch.isfinite(value), value, math.inf)

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(objective, gradient (k,)), by the discrete adjoint."""
        values, grads = self.gradient_batch(theta.unsqueeze(0))
        return values[0], grads[0]

    def gradient_batch(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """(objectives (B,), gradients (B, k)). Where a solve fails, infinity and zeros."""
        with torch.enable_grad():
            thetas = thetas.detach().to(torch.float64).requires_grad_()
            values = self.objective_batch(thetas)
            (grads,) = torch.autograd.grad(values.sum(), thetas)
        failed = ~(torch.isfinite(values.detach()) & torch.isfinite(grads).all(-1))
        values = torch.where(failed, math.inf, values.detach())
        return values, torch.where(failed.unsqueeze(-1), 0.0, grads)

    def gauss_newton(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(objective, gradient (k,), Gauss-Newton matrix (k, k)), by forward sensitivities."""
        values, grads, matrices = self.gauss_newton_batch(theta.unsqueeze(0))
        return values[0], grads[0], matrices[0]

    def gauss_newton_batch(self, thetas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(objectives (B,), gradients (B, k), Gauss-Newton matrices (B, k, k)) at thetas, (B, k):
        infinity and zeros where a solve fails."""
        thetas = thetas.detach().to(torch.float64)
        with torch.enable_grad():
            points = thetas.clone().requires_grad_()
            priors = self._minus_log_priors(points)
        slopes = torch.zeros_like(thetas)
        if priors.requires_grad:
            (slopes,) = torch.autograd.grad(priors.sum(), points)
        bend = [info.prior.curvature if info.prior else 0.0 for info in self._parameters]
        curvature = torch.tensor(bend, dtype=torch.float64).diag()
        found = []
        for linear, prior, slope in zip(self._tried(thetas), priors.detach(), slopes, strict=True):
            parts = infinite(thetas.shape[1])
            if linear is not None:
                value, grad, matrix = fisher(*linear)
                own = (value + prior, grad + slope, matrix + curvature)
                if bool(torch.isfinite(own[1]).all() and torch.isfinite(own[2]).all()):
                    parts = own
            found.append(parts)
        values, grads, matrices = (torch.stack(part) for part in zip(*found, strict=True))
        return values, grads, matrices

    @property
    def batches_pay(self) -> bool:
        """Whether many theta as one batch are faster than one after the other."""
        return self.simulator.engine == "native" and not self.bound.shares_parameters

    def residuals(self, theta: Tensor) -> Tensor:
        """(r,) with |r|^2 / 2 = objective + constant, differentiable once.

        An unknown standard deviation s of N values has the residual sqrt(2 N (log(s / lower) + 1)).
        Raises SolveError where a solve fails, ValueError for priors other than normal ones.
        """
        theta = theta.to(torch.float64)
        parts = [self._scaled_differences(theta)]
        parts += self.noise.residuals(self._scales.values(theta))
        for i, info in enumerate(self._parameters):
            if info.prior is None:
                continue
            if info.prior.kind != "normal":
                raise ValueError(
                    f"least squares take normal priors alone, and {info.name} has another one:"
                    " choose the optimiser fides or lbfgs"
                )
            parts.append(((theta[i] - info.prior.mean) / info.prior.width).reshape(1))
        return torch.cat(parts)

    def predictions(self, theta: Tensor) -> Predictions:
        """Measured and simulated values at the times of the measurements. Raises SolveError."""
        with torch.no_grad():
            values = self._scales.values(theta.detach().to(torch.float64))
            simulated = self._simulated(values.unsqueeze(0))[0]
        seen = self.noise.seen
        return self._table(
            seen.column.tolist(),
            seen.run.tolist(),
            self.simulator.grid[seen.time, seen.run],
            seen.value,
            simulated,
            self.noise.of_seen(values),
        )

    def curves(self, theta: Tensor) -> Predictions:
        """Simulated values at many times, for smooth pictures. Raises SolveError."""
        grid, _ = common_grid([fine_times(run.t)[0] for run in self.table.runs])
        with torch.no_grad():
            values = self._scales.values(theta.detach().to(torch.float64))
            free, start = self._inputs(values)
            y = self.simulator.states(free, start, grid)
            simulated = self.observation.values(y, free, grid)
        times, runs, columns = simulated.shape
        place = torch.cartesian_prod(torch.arange(columns), torch.arange(runs), torch.arange(times))
        return self._table(
            place[:, 0].tolist(),
            place[:, 1].tolist(),
            grid.T.repeat(columns, 1).reshape(-1),
            torch.full((len(place),), torch.nan, dtype=torch.float64),
            simulated.permute(2, 1, 0).reshape(-1),
            self.noise.deviations(values)[place[:, 0]],
        )

    def _table(self, columns, runs, time, measured, simulated, noise):
        which = torch.tensor(columns)
        return Predictions(
            [self.table.columns[i] for i in columns],
            [self.table.runs[i].name for i in runs],
            time,
            measured,
            simulated,
            noise,
            self.noise.relative[which],
        )

    def _inputs(self, values):
        """(free (B, k), start (B, n)) at the values of all parameters, differentiable."""
        free = values[: self._free].expand(len(self.table.runs), -1)
        unknown = values[self._free : self._free + len(self._unknown)]
        return free, self.initial.start(free, self._unknown, unknown)

    def _simulated(self, values):
        """The simulated values of the N measurements, (B, N), at parameters (B, k)."""
        inputs = [self._inputs(one) for one in values]
        free = torch.cat([one for one, _ in inputs])
        y = self.simulator.states(free, torch.cat([start for _, start in inputs]))
        found = self.observation.values(y, free, self.simulator.grid)
        # (T, B R, m) becomes (T, R, m, B) for R runs.
        found = found.unflatten(1, (len(values), -1)).movedim(1, -1)
        return self.noise.seen.of_array(found).T

    def _minus_log_priors(self, thetas):
        """(..., ) for thetas (..., k)."""
        found = thetas.new_zeros(thetas.shape[:-1])
        for i, info in enumerate(self._parameters):
            if info.prior is not None:
                found = found + info.prior.minus_log(thetas[..., i])
        return found

    def _scaled_differences(self, theta):
        """Differences in units of their deviations, (N,), differentiable once."""
        point = theta.detach()
        if not (theta.requires_grad and torch.is_grad_enabled()):
            values = self._scales.values(point)
            errors = self.noise.errors(self._simulated(values.unsqueeze(0))[0], values)
            return errors.difference / errors.deviation
        (linear,) = self._linearised(point.unsqueeze(0))
        errors = linear.errors
        scaled = errors.difference / errors.deviation
        jacobian = (
            linear.of_difference - scaled[:, None] * linear.of_deviation
        ) / errors.deviation[:, None]
        # A linear function with the right value and derivative: its graph costs no solve.
        return scaled + jacobian @ (theta - point)

    def _tried(self, thetas):
        """What ``_linearised`` gives; None for a theta whose solve fails."""
        if len(thetas) > 1 and self.bound.shares_parameters:
            return [found for one in thetas.split(1) for found in self._tried(one)]
        try:
            return self._linearised(thetas)
        except SolveError:
            if len(thetas) == 1:
                return [None]
            return [found for part in thetas.tensor_split(2) for found in self._tried(part)]

    def _linearised(self, thetas):
        """The errors and their derivatives in theta, for each theta, (B, k). Raises SolveError."""
        values = self._scales.values(thetas)
        inputs = [self._inputs(one) for one in values]
        through_starts = [self.initial.slopes(free) for free, _ in inputs]
        found = self.simulator.sensitivities(
            torch.cat([free for free, _ in inputs]),
            torch.cat([start for _, start in inputs]),
            bool(self._unknown) or through_starts[0] is not None,
        )
        parts = found.split(len(self.table.runs))
        return [
            self._errors_of(part, given)
            for part, given in zip(parts, zip(values, inputs, through_starts), strict=True)
        ]

    def _errors_of(self, found, given):
        """The _Linearised of one theta, from the sensitivities of its runs."""
        values, (free, _), through_start = given
        of_states = self.initial.chained(found, through_start, self._unknown, len(values))
        simulated, slopes = self.observation.slopes(found.y, free, self.simulator.grid, of_states)
        seen = self.noise.seen
        picked = seen.of_array(simulated)
        scale = self._scales.slopes(values)
        of_difference = seen.of_array(slopes) * scale
        of_difference = torch.where(
            seen.relative[:, None], of_difference / picked[:, None], of_difference
        )
        errors = self.noise.errors(picked, values)
        return _Linearised(errors, of_difference, self.noise.slopes(scale))


class _Linearised(NamedTuple):
    errors: Errors
    of_difference: Tensor
    of_deviation: Tensor
