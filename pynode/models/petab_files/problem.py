"""``PetabProblem``: objective, gradient, Gauss-Newton matrix and predictions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import sympy as sp
import torch
from torch import Tensor

from ...core.parameter_info import ParameterInfo
from ...core.status import SolveError
from ...equilibrium import SteadyStateError
from ..reactions.model import ReactionModel
from ..reactions.symbols import symbol
from .networks import FirstNetworks, LateNetworks
from .observations import Observations
from .plan import Plan
from .records import Definition
from .simulation import Simulation, SimulationFailed, SolveOptions
from .values import Values

if TYPE_CHECKING:
    import pandas

# What the simulation of an experiment can raise.
FAILURES = (SimulationFailed, SolveError, SteadyStateError)


class PetabProblem:
    """An estimation problem of PEtab files, as ``pynode.models.petab`` reads it.

    All theta are float64 tensors, (k,), on the scales of the parameters: log10 of a parameter whose
    scale is "log10". ``parameters`` names their components.

    parameters: the estimated ParameterInfo, in the order of theta. model: the ReactionModel.
    start: theta of the nominal values. lower, upper: bounds of theta.
    """

    def __init__(
        self,
        definition: Definition,
        model: ReactionModel,
        options: SolveOptions,
        assigned: dict[str, sp.Expr] | None = None,
    ) -> None:
        self.definition = definition
        self.model = model
        self.options = options
        self.values = Values(definition.parameters, _first_networks(definition))
        self.plan = Plan(definition, model, self.values, assigned or {})
        late = [network for network in definition.networks if not network.first]
        self.networks = None
        if late:
            names = self.values.names
            self.networks = LateNetworks(model, late, names, definition.assigned)
        self.observations = Observations(self.plan, self.networks)
        self.values.finish()
        self.simulation = Simulation(self.plan, options, self.networks)

    @property
    def parameters(self) -> tuple[ParameterInfo, ...]:
        """The estimated parameters, in the order of theta."""
        return self.values.estimated

    @property
    def start(self) -> Tensor:
        """theta of the nominal values, (k,)."""
        return self.values.theta()

    @property
    def lower(self) -> Tensor:
        """The lower bounds of theta, (k,)."""
        return self.values.theta({item.name: item.lower for item in self.parameters})

    @property
    def upper(self) -> Tensor:
        """The upper bounds of theta, (k,)."""
        return self.values.theta({item.name: item.upper for item in self.parameters})

    def theta(self, values: dict[str, float]) -> Tensor:
        """theta of values in the units of the model; names that are missing have their nominal
        values."""
        return self.values.theta(values)

    def objective(self, theta: Tensor) -> Tensor:
        """The negative log likelihood minus the log priors, a 0-d tensor, differentiable; infinity
        where a simulation fails."""
        return self.objective_batch(theta.unsqueeze(0)).squeeze(0)

    def objective_batch(self, thetas: Tensor) -> Tensor:
        """The objectives of several theta, (B, k) -> (B,), simulated as one batch.

        A theta for which a simulation fails has the objective infinity.
        """
        if self.networks is not None and len(thetas) > 1:
            return torch.cat([self.objective_batch(one.unsqueeze(0)) for one in thetas])
        with torch.set_grad_enabled(torch.is_grad_enabled() and thetas.requires_grad):
            try:
                values, noise, prior = self._simulated(thetas)
            except FAILURES:
                if len(thetas) == 1:
                    # The sum keeps the graph, with the gradient zero.
                    return thetas.sum(-1) * 0 + math.inf
                return torch.cat([self.objective_batch(one.unsqueeze(0)) for one in thetas])
            value = self.observations.negative_log_likelihood(values, noise) - prior
            return torch.where(torch.isnan(value), math.inf, value)

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(objective, gradient (k,)). Where a simulation fails, infinity and zeros."""
        leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            value = self.objective(leaf)
            (slope,) = torch.autograd.grad(value, leaf)
        return value.detach(), torch.nan_to_num(slope)

    def gradient_batch(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """(objectives (B,), gradients (B, k))."""
        leaf = thetas.detach().clone().requires_grad_()
        with torch.enable_grad():
            value = self.objective_batch(leaf)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), torch.nan_to_num(slope)

    def gauss_newton(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(objective, gradient (k,), expected second derivatives (k, k)).

        The matrix is Fisher's. It has first derivatives of the simulated values and of their noise.
        It has the curvature of the priors where this is positive. Where a simulation fails, the
        objective is infinity, and the others are zeros.
        """
        leaf = theta.detach().clone().requires_grad_()
        try:
            with torch.enable_grad():
                values, noise, prior = self._simulated(leaf.unsqueeze(0), adjoint="forward")
        except FAILURES:
            zeros = torch.zeros_like(leaf.detach())
            return theta.new_tensor(math.inf), zeros, torch.diag(zeros)
        with torch.enable_grad():
            cost = (self.observations.negative_log_likelihood(values, noise) - prior).squeeze(0)
            rows = self._jacobian(torch.cat((values[0], noise[0])), leaf)
            (slope,) = torch.autograd.grad(cost, leaf, retain_graph=True)
        with torch.no_grad():
            weights = torch.cat(self.observations.weights(values, noise), 1)[0]
            matrix = rows.T @ (weights.unsqueeze(1) * rows)
        matrix = matrix + torch.diag(self._prior_curvature(theta.detach()))
        value = torch.where(torch.isnan(cost), math.inf, cost).detach()
        return value, torch.nan_to_num(slope), torch.nan_to_num(matrix)

    def _jacobian(self, outputs, leaf):
        """(len(outputs), k), in blocks of rows that fit into memory."""
        whole = torch.eye(len(outputs), dtype=outputs.dtype)
        blocks = [
            torch.autograd.grad(outputs, leaf, block, retain_graph=True, is_grads_batched=True)[0]
            for block in whole.split(256)
        ]
        return torch.cat(blocks)

    def _prior_curvature(self, theta):
        """(k,) second derivatives of the negative log priors, where they are positive."""
        leaf = theta.clone().requires_grad_()
        with torch.enable_grad():
            total = self._log_prior(leaf.unsqueeze(0), self.values.values(leaf.unsqueeze(0)))
            if not total.requires_grad:
                return torch.zeros_like(theta)
            (slope,) = torch.autograd.grad(-total.sum(), leaf, create_graph=True)
            if not slope.requires_grad:
                return torch.zeros_like(theta)
            (second,) = torch.autograd.grad(slope.sum(), leaf)
        return second.clamp(min=0.0)

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """The log likelihood, a 0-d tensor."""
        values, noise, _ = self._simulated(theta.unsqueeze(0))
        return -self.observations.negative_log_likelihood(values, noise).squeeze(0)

    def log_prior(self, theta: Tensor) -> Tensor:
        """The logarithm of the priors, a 0-d tensor: zero if there are none."""
        lead = theta.unsqueeze(0)
        return self._log_prior(lead, self.values.values(lead)).squeeze(0)

    def chi2(self, theta: Tensor) -> Tensor:
        """The sum of the squared normalised residuals, a 0-d tensor."""
        values, noise, _ = self._simulated(theta.unsqueeze(0))
        return self.observations.chi2(values, noise).squeeze(0)

    def simulated(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(simulated values, their noise), (M,) each, in the order of the measurement files."""
        values, noise, _ = self._simulated(theta.unsqueeze(0))
        back = torch.argsort(torch.tensor([item.row for item in self.observations.items]))
        return values[0, back], noise[0, back]

    def predictions(self, theta: Tensor) -> pandas.DataFrame:
        """A table with a line for each measurement, in the order of the files.

        Columns: observable, condition (the experiment), time, measured, simulated, noise (the
        standard deviation; of the logarithm where logarithmic is True), logarithmic.
        """
        import pandas

        with torch.no_grad():
            values, noise = self.simulated(theta)
        items = sorted(self.observations.items, key=lambda item: item.row)
        observables = self.definition.observables
        transforms = [observables[item.observable].transform for item in items]
        return pandas.DataFrame(
            {
                "observable": [item.observable for item in items],
                "condition": [item.experiment for item in items],
                "time": [item.time for item in items],
                "measured": [item.value for item in items],
                "simulated": values.numpy(),
                "noise": noise.numpy(),
                "logarithmic": [transform != "lin" for transform in transforms],
            }
        )

    def _simulated(self, thetas, adjoint=None):
        """(values (B, M), noise (B, M), log prior (B,))."""
        parameters = self.values.values(thetas)
        pool = self.values.pool(parameters)
        simulation = self.simulation
        if adjoint is not None:
            simulation = simulation.with_adjoint(adjoint)
        results = simulation.run(pool, parameters)
        values, noise = self.observations.evaluate(results, pool, parameters)
        return values, noise, self._log_prior(thetas, parameters)

    def _log_prior(self, thetas, parameters):
        total = thetas.new_zeros(thetas.shape[0])
        for i, item in enumerate(self.parameters):
            if item.prior is not None:
                place = self.values.names.index(item.name)
                total = total + item.prior.log_density(parameters[:, place], thetas[:, i])
        return total

    def __repr__(self) -> str:
        return (
            f"PetabProblem({len(self.parameters)} parameters, {len(self.model.states)} states,"
            f" {len(self.definition.experiments)} experiments,"
            f" {len(self.definition.measurements)} measurements)"
        )


def _first_networks(definition: Definition) -> FirstNetworks | None:
    """The networks that are evaluated before the simulations, or None."""
    networks = [network for network in definition.networks if network.first]
    if not networks:
        return None
    inputs: dict[tuple[str, str], list[sp.Expr]] = {}
    for network in networks:
        for name, experiment in definition.experiments.items():
            known = {**network.inputs, **experiment.inputs}
            inputs[network.name, name] = [
                known.get(component, symbol(component)) for component in network.components()
            ]
    conditions = {
        name: experiment.periods[0].names for name, experiment in definition.experiments.items()
    }
    names = [item.name for item in definition.parameters]
    return FirstNetworks(networks, names, inputs, conditions)
