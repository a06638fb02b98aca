"""Chemical kinetics with constants to learn: rate constants that stay positive, and networks that
conserve exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..core.constants import Constants, default_device, valued
from ..core.reaction_equations import GAS_CONSTANT, sides


class RateConstants(nn.Module):
    """k = exp(p), positive for all parameters p, (m,). A step of an optimiser changes k by a
    factor, which is the same for 1e-3 and for 1e9.

    k: (m,) start values, positive, in the units of the rates.
    known: the constants that are not learned, a mask (m,) of bools.
    """

    known: torch.Tensor
    given: torch.Tensor

    def __init__(
        self,
        k: float | torch.Tensor | Sequence[float],
        known: bool | torch.Tensor | Sequence[bool] = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        start = _positive(k, "k", dtype)
        self.log_k = nn.Parameter(_placed(start.log()))
        self.register_buffer("known", _placed(_mask(known, start, "known")))
        self.register_buffer("given", _placed(start.log()))

    def forward(self) -> torch.Tensor:
        """k, (m,)."""
        return torch.where(self.known, self.given, self.log_k).exp()


class Arrhenius(nn.Module):
    """k(T) = A T^b exp(-Ea / (R T)), the modified Arrhenius equation, R = 8.314 J/(mol K), T in K.

    A: (m,) pre-exponential factors, positive, in units of k / K^b.
    b: (m,) or a number.
    Ea: (m,) activation energies in J/mol. Learning starts at these values of A, b and Ea; those
        that are not learned keep them.
    learn_A, learn_b, learn_Ea: True, False, or a mask (m,) that says for which reactions it is
        learned.
    reference: a temperature in K in the middle of the data. Instead of A and Ea, which compensate
        each other, ln k(reference) and Ea / (R reference) are learned: numbers of order one that
        the data determine nearly independently. ``log10_A`` and ``Ea`` return the usual constants.
    """

    log_k: torch.Tensor
    activation: torch.Tensor
    exponent: torch.Tensor
    given_log_A: torch.Tensor
    given_activation: torch.Tensor
    given_b: torch.Tensor
    learned_log_A: torch.Tensor
    learned_activation: torch.Tensor
    learned_b: torch.Tensor

    def __init__(
        self,
        A: float | torch.Tensor | Sequence[float],
        b: float | torch.Tensor | Sequence[float] = 0.0,
        Ea: float | torch.Tensor | Sequence[float] = 0.0,
        *,
        reference: float = 1000.0,
        learn_A: bool | torch.Tensor | Sequence[bool] = True,
        learn_b: bool | torch.Tensor | Sequence[bool] = False,
        learn_Ea: bool | torch.Tensor | Sequence[bool] = True,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        factor = _positive(A, "A", dtype)
        if not (isinstance(reference, (int, float)) and 0 < reference < math.inf):
            raise ValueError(
                "reference must be a temperature in K, in the middle of the data's, not"
                f" {reference!r}"
            )
        exponent = _vector(b, factor, "b")
        activation = _vector(Ea, factor, "Ea") / (GAS_CONSTANT * reference)
        self.reference = float(reference)
        log_k = factor.log() + exponent * math.log(reference) - activation
        for parameter, name, start, given, learned in (
            ("log_k", "log_A", log_k, factor.log(), learn_A),
            ("activation", "activation", activation, activation, learn_Ea),
            ("exponent", "b", exponent, exponent, learn_b),
        ):
            mask = _mask(learned, factor, "learn_A, learn_b or learn_Ea")
            setattr(
                self,
                parameter,
                nn.Parameter(_placed(start.clone()), requires_grad=bool(mask.any())),
            )
            self.register_buffer(f"given_{name}", _placed(given))
            self.register_buffer(f"learned_{name}", _placed(mask))

    @property
    def b(self) -> torch.Tensor:
        """(m,) exponents."""
        return torch.where(self.learned_b, self.exponent, self.given_b)

    @property
    def Ea(self) -> torch.Tensor:
        """(m,) activation energies in J/mol."""
        return self._activation * (GAS_CONSTANT * self.reference)

    @property
    def log10_A(self) -> torch.Tensor:
        """(m,) decimal logarithms of the pre-exponential factors."""
        return self._log_A / math.log(10)

    @property
    def _activation(self):
        return torch.where(self.learned_activation, self.activation, self.given_activation)

    @property
    def _log_A(self):
        learned = self.log_k - self.b * math.log(self.reference) + self._activation
        return torch.where(self.learned_log_A, learned, self.given_log_A)

    def forward(self, T: float | torch.Tensor) -> torch.Tensor:
        """k, (..., m), at the temperatures T in K, (...,) or a number."""
        T = torch.as_tensor(T, dtype=self.log_k.dtype, device=self.log_k.device).unsqueeze(-1)
        return (self._log_A + self.b * T.log() - self._activation * (self.reference / T)).exp()


class ReactionNetwork(Constants):
    """dy/dt = nu^T r with the mass-action rates r_j = k_j prod_i y_i^order_ji; y (..., n)
    concentrations.

    The equations conserve what nu conserves (its null space: elements, charge, total mass) for all
    constants, up to rounding. So do all Runge-Kutta, Rosenbrock and BDF methods, because they
    conserve linear invariants.

    stoichiometry: nu, (m, n): how many of each species a reaction makes, minus how many it uses.
    orders: (m, n), integers that are not negative: how many molecules of each species meet.
    rates: nn.Module that returns k, (m,) or (..., m): RateConstants, Arrhenius. It gets the further
        arguments of the field (args of solve), such as the temperature: a number, a tensor (...,)
        that matches the rows of y, or a function of t.

    ``ReactionNetwork.of`` takes equations instead of matrices.
    """

    stoichiometry: torch.Tensor
    factors: torch.Tensor

    def __init__(
        self,
        stoichiometry: torch.Tensor | Sequence[Sequence[float]],
        orders: torch.Tensor | Sequence[Sequence[float]],
        rates: nn.Module,
    ) -> None:
        super().__init__()
        if not isinstance(rates, nn.Module):
            raise TypeError(
                "rates must be an nn.Module such as RateConstants or Arrhenius, not"
                f" {type(rates).__name__}"
            )
        like = next(rates.parameters(), torch.empty(0, dtype=torch.float64))
        nu, counts = (valued(x, like.dtype, like.device) for x in (stoichiometry, orders))
        if nu.dim() != 2 or nu.shape != counts.shape:
            raise ValueError(
                "stoichiometry and orders are matrices of one shape, reactions by species, not"
                f" {tuple(nu.shape)} and {tuple(counts.shape)}"
            )
        if bool((counts < 0).any()) or bool((counts != counts.round()).any()):
            raise ValueError(
                "orders are numbers of molecules, integers that are not negative; CRNN learns real"
                " orders"
            )
        self.rates = rates
        self.species: list[str] | None = None
        self.keep("stoichiometry", nu, like.device)
        # Each rate is a product of factors, given by the numbers of their species; n means a factor
        # 1. Products have derivatives at zero, powers do not.
        n = nu.shape[1]
        most = max(1, int(counts.sum(1).max()))
        factors = [
            [i for i, order in enumerate(row) for _ in range(int(order))] for row in counts.tolist()
        ]
        table = torch.tensor([row + [n] * (most - len(row)) for row in factors], device=nu.device)
        self.keep("factors", table.T.contiguous(), like.device)

    @property
    def state_names(self) -> list[str] | None:
        """The names of the components of y: the species, if they have names."""
        return self.species

    @classmethod
    def of(
        cls, reactions: Sequence[str], species: Sequence[str], rates: nn.Module
    ) -> ReactionNetwork:
        """From equations such as "A + B -> 2 C", a list of m. species: n names, in the order of the
        components of y."""
        equations = [sides(reaction) for reaction in reactions]
        species = list(species)
        unknown = {name for left, right in equations for name in (*left, *right)} - set(species)
        if unknown:
            raise ValueError(
                f"the reactions name {', '.join(sorted(unknown))}, not among the species"
                f" {', '.join(species)}"
            )
        orders = [[left[name] for name in species] for left, _ in equations]
        network = cls(
            [[right[name] - left[name] for name in species] for left, right in equations],
            orders,
            rates,
        )
        network.species = species
        return network

    def conserved(self) -> torch.Tensor:
        """Orthonormal rows w, (c, n), for which w . y never changes: the null space of nu."""
        # Always in float64: rounding in float32 could hide the rank of the integers of nu.
        _, sizes, rows = torch.linalg.svd(self.stoichiometry.double())
        rank = int((sizes > 1e-10 * sizes.max()).sum())
        return rows[rank:].to(self.stoichiometry)

    def reaction_rates(self, t: float | torch.Tensor, y: torch.Tensor, *args: Any) -> torch.Tensor:
        """r, (..., m), in units of y per time."""
        # batched=True passes a time for each row, (rows, 1, ...). Functions of t need one for each
        # row, without the last dimension.
        time = t
        if isinstance(t, torch.Tensor) and t.dim():
            time = t.squeeze(-1)
        r = self.rates(*[arg(time) if callable(arg) else arg for arg in args])
        padded = torch.cat((y, torch.ones_like(y[..., :1])), -1)
        for factor in self.factors:
            r = r * padded.index_select(-1, factor)
        return r

    def forward(self, t: float | torch.Tensor, y: torch.Tensor, *args: Any) -> torch.Tensor:
        """dy/dt, (..., n), at y (..., n)."""
        return self.reaction_rates(t, y, *args) @ self.stoichiometry


class CRNN(nn.Module):
    """A chemical reaction neural network: its equations, orders and constants are unknown. Ji &
    Deng, J. Phys. Chem. A 125 (2021).

    dy/dt = W^T exp(ln k + V ln y). The orders V = max(-W, 0) are those of the species that a
    reaction uses: an elementary reaction.

    species, reactions: their numbers n and m.
    most: the largest order.
    floor: the smallest concentration that counts, in units of y.

    The learned parameters are W, ``stoichiometry`` (m, n), and ``log_k`` (m,).
    """

    def __init__(
        self,
        species: int,
        reactions: int,
        *,
        most: float = 3.0,
        floor: float = 1e-10,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.stoichiometry = nn.Parameter(0.3 * torch.randn(reactions, species, dtype=dtype))
        self.log_k = nn.Parameter(torch.zeros(reactions, dtype=dtype))
        self.most = most
        self.floor = floor

    @property
    def orders(self) -> torch.Tensor:
        """(m, n) reaction orders."""
        return (-self.stoichiometry).clamp(0, self.most)

    def forward(self, t: float | torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, (..., n), at y (..., n)."""
        log_rates = self.log_k + y.clamp(min=self.floor).log() @ self.orders.T
        return log_rates.exp() @ self.stoichiometry


def _placed(x):
    """x. If modules are made on the meta device, x without its values."""
    if default_device().type == "meta":
        return x.to("meta")
    return x


def _positive(values, name, dtype):
    values = valued(values, dtype).detach().clone()
    if values.dim() != 1 or not bool((values > 0).all()) or not bool(values.isfinite().all()):
        raise ValueError(
            f"{name} must be positive and finite, one value a reaction, (m,), not {values.tolist()}"
        )
    return values


def _vector(values, like, name):
    values = torch.as_tensor(values, dtype=like.dtype, device=like.device).detach()
    if (
        values.dim() > 1
        or values.numel() not in (1, len(like))
        or not bool(values.isfinite().all())
    ):
        raise ValueError(
            f"{name} must be finite, a number or one for each of the {len(like)} reactions, not"
            f" {values.tolist()}"
        )
    return values.expand(len(like)).clone()


def _mask(values, like, name):
    values = torch.as_tensor(values, device=like.device)
    if values.dtype != torch.bool or values.dim() > 1 or values.numel() not in (1, len(like)):
        raise ValueError(
            f"{name} must be True, False or a bool for each of the {len(like)} reactions, not"
            f" {values.tolist()}"
        )
    return values.expand(len(like)).clone()
