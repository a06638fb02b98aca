"""Chemical kinetics with constants to be learned: rate constants that stay positive, and networks
that conserve exactly."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..core.constants import Constants, default_device, valued
from ..core.reaction_equations import sides

GAS_CONSTANT = 8.31446261815324  # J/(mol K), exact in the SI since 2019


class RateConstants(nn.Module):
    """k = exp(p), positive whatever the parameters p, (m,): an optimiser's step is a factor, the
    same for 1e-3 and for 1e9.

    k: (m,) start values, positive, in the units of the rates. known: the constants that are not
    learned, a mask (m,) of bools.
    """

    def __init__(self, k, known=False, dtype=torch.float64):
        super().__init__()
        k = _positive(k, "k", dtype)
        self.log_k = nn.Parameter(_placed(k.log()))
        self.register_buffer("known", _placed(_mask(known, k, "known")))
        self.register_buffer("given", _placed(k.log()))

    def forward(self):
        """k, (m,)."""
        return torch.where(self.known, self.given, self.log_k).exp()


class Arrhenius(nn.Module):
    """k(T) = A T^b exp(-Ea / (R T)), the modified Arrhenius equation, R = 8.314 J/(mol K), T in K.

    A: (m,) pre-exponential factors, positive, in units of k / K^b; b: (m,) or a number; Ea: (m,)
        activation energies in J/mol. These are where learning starts, or the truth for those that
        are known.
    learn_A, learn_b, learn_Ea: True, False, or a mask (m,) of the reactions for which it is
    learned.
    reference: a temperature in K in the middle of the data's. What is learned in the place of A and
        Ea is ln k(reference) and Ea / (R reference), numbers of order one that the data determine
        nearly independently of each other, where A and Ea compensate; ``log10_A`` and ``Ea`` tell
        what these mean.
    """

    def __init__(
        self,
        A,
        b=0.0,
        Ea=0.0,
        *,
        reference=1000.0,
        learn_A=True,
        learn_b=False,
        learn_Ea=True,
        dtype=torch.float64,
    ):
        super().__init__()
        A = _positive(A, "A", dtype)
        if not (isinstance(reference, (int, float)) and 0 < reference < math.inf):
            raise ValueError(
                "reference must be a temperature in K, in the middle of the data's, not"
                f" {reference!r}"
            )
        b, Ea = (_vector(x, A, name) for x, name in ((b, "b"), (Ea, "Ea")))
        self.reference = float(reference)
        activation = Ea / (GAS_CONSTANT * reference)
        log_k = A.log() + b * math.log(reference) - activation
        for parameter, name, start, given, learned in (
            ("log_k", "log_A", log_k, A.log(), learn_A),
            ("activation", "activation", activation, activation, learn_Ea),
            ("exponent", "b", b, b, learn_b),
        ):
            mask = _mask(learned, A, "learn_A, learn_b or learn_Ea")
            setattr(
                self,
                parameter,
                nn.Parameter(_placed(start.clone()), requires_grad=bool(mask.any())),
            )
            self.register_buffer(f"given_{name}", _placed(given))
            self.register_buffer(f"learned_{name}", _placed(mask))

    @property
    def b(self):
        """(m,) exponents."""
        return torch.where(self.learned_b, self.exponent, self.given_b)

    @property
    def Ea(self):
        """(m,) activation energies in J/mol."""
        return self._activation * (GAS_CONSTANT * self.reference)

    @property
    def log10_A(self):
        """(m,) decimal logarithms of the pre-exponential factors."""
        return self._log_A / math.log(10)

    @property
    def _activation(self):
        return torch.where(self.learned_activation, self.activation, self.given_activation)

    @property
    def _log_A(self):
        learned = self.log_k - self.b * math.log(self.reference) + self._activation
        return torch.where(self.learned_log_A, learned, self.given_log_A)

    def forward(self, T):
        """k, (..., m), at the temperatures T, (...,) or a number, in K."""
        T = torch.as_tensor(T, dtype=self.log_k.dtype, device=self.log_k.device).unsqueeze(-1)
        return (self._log_A + self.b * T.log() - self._activation * (self.reference / T)).exp()


class ReactionNetwork(Constants):
    """dy/dt = nu^T r with the rates r_j = k_j prod_i y_i^order_ji of mass action; y (..., n)
    concentrations.

    Whatever the constants, what nu conserves (its null space: elements, charge, total mass) is
    conserved by the equations to rounding, and by all Runge-Kutta, Rosenbrock and BDF methods,
    which keep linear invariants.

    stoichiometry: nu, (m, n), how many of each species a reaction makes, less those that it takes.
    orders: (m, n), integers that are not negative: how many molecules of each species meet.
    rates: nn.Module that returns k, (m,) or (..., m): RateConstants, Arrhenius. It is called with
        the further arguments of the field (solve's args), such as the temperature: a number, a
        tensor (...,) beside the rows of y, or a function of t.
    ``ReactionNetwork.of`` takes equations instead of matrices.
    """

    def __init__(self, stoichiometry, orders, rates):
        super().__init__()
        if not isinstance(rates, nn.Module):
            raise TypeError(
                "rates must be an nn.Module such as RateConstants or Arrhenius, not"
                f" {type(rates).__name__}"
            )
        like = next(rates.parameters(), torch.empty(0, dtype=torch.float64))
        nu, orders = (valued(x, like.dtype, like.device) for x in (stoichiometry, orders))
        if nu.dim() != 2 or nu.shape != orders.shape:
            raise ValueError(
                "stoichiometry and orders are matrices of one shape, reactions by species, not"
                f" {tuple(nu.shape)} and {tuple(orders.shape)}"
            )
        if bool((orders < 0).any()) or bool((orders != orders.round()).any()):
            raise ValueError(
                "orders are integers that are not negative: molecules that meet; CRNN learns real"
                " orders"
            )
        self.rates = rates
        self.species = None
        self.keep("stoichiometry", nu, like.device)
        # The factors of each rate by number of their species, n for a factor 1: products have
        # derivatives at zero, powers not.
        n = nu.shape[1]
        most = max(1, int(orders.sum(1).max()))
        factors = [
            [i for i, order in enumerate(row) for _ in range(int(order))] for row in orders.tolist()
        ]
        table = torch.tensor([row + [n] * (most - len(row)) for row in factors], device=nu.device)
        self.keep("factors", table.T.contiguous(), like.device)

    @classmethod
    def of(cls, reactions, species, rates):
        """From equations such as "A + B -> 2 C", a list of m; species: n names, in the order of the
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

    def conserved(self):
        """Orthonormal rows w, (c, n), for which w . y never changes: the null space of nu."""
        # In float64 whatever the dtype: the integers of nu have a rank that rounding in float32
        # would hide.
        _, sizes, rows = torch.linalg.svd(self.stoichiometry.double())
        rank = int((sizes > 1e-10 * sizes.max()).sum())
        return rows[rank:].to(self.stoichiometry)

    def reaction_rates(self, t, y, *args):
        """r, (..., m), in units of y per time."""
        # A solve with batched=True has a time for each row, (rows, 1, ...): one for each rate of it
        # too many.
        if isinstance(t, torch.Tensor) and t.dim():
            clock = t.squeeze(-1)
        else:
            clock = t
        r = self.rates(*[arg(clock) if callable(arg) else arg for arg in args])
        padded = torch.cat((y, torch.ones_like(y[..., :1])), -1)
        for factor in self.factors:
            r = r * padded.index_select(-1, factor)
        return r

    def forward(self, t, y, *args):
        """dy/dt, (..., n), at y (..., n)."""
        return self.reaction_rates(t, y, *args) @ self.stoichiometry


class CRNN(nn.Module):
    """A chemical reaction neural network: equations, orders and constants unknown. Ji & Deng, J.
    Phys. Chem. A 125 (2021).

    dy/dt = W^T exp(ln k + V ln y), where the orders V = max(-W, 0) are those of what a reaction
    takes: an elementary reaction.

    species, reactions: how many, n and m. most: the largest order; floor: the smallest
    concentration that counts, in units of y. Learned are W, ``stoichiometry`` (m, n), and ``log_k``
    (m,).
    """

    def __init__(self, species, reactions, *, most=3.0, floor=1e-10, dtype=torch.float64):
        super().__init__()
        self.stoichiometry = nn.Parameter(0.3 * torch.randn(reactions, species, dtype=dtype))
        self.log_k = nn.Parameter(torch.zeros(reactions, dtype=dtype))
        self.most = most
        self.floor = floor

    @property
    def orders(self):
        """(m, n) reaction orders."""
        return (-self.stoichiometry).clamp(0, self.most)

    def forward(self, t, y):
        """dy/dt, (..., n), at y (..., n)."""
        return (
            self.log_k + y.clamp(min=self.floor).log() @ self.orders.T
        ).exp() @ self.stoichiometry


def _placed(x):
    """x, without its values where modules are made on the meta device."""
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
