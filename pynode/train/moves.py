"""Rates that conserve sums and keep states positive at the same time.

The rates have the form of a reaction: dy/dt = S v with rates v_j of moves, the columns of S. A move
changes no conserved sum, C S = 0, so S v changes none, whatever v is. v_j is positive and has the
product of the positive states that the move consumes as a factor. So

    dy_i/dt >= -c y_i    with a c that is bounded where the states are,

because every move that lowers y_i has the factor y_i; hence y_i(t) >= y_i(0) exp(-c t) >= 0, by
Groenwall. Mass action has this form (M. Feinberg, Foundations of Chemical Reaction Network Theory,
Springer 2019, sec. 3.4).

The moves are the elementary vectors of the null space of C, with both signs: those whose nonzero
entries are the fewest. Every vector of the space is a sum of elementary ones that agree with it in
all signs (R. T. Rockafellar, The elementary vectors of a subspace of R^n, 1969, theorem 1). So no
field is lost: if r conserves the sums and r_i >= 0 where y_i = 0, then r is a sum of moves with
positive rates none of which consumes a state that is zero. Each of these rates is at most
min_i |r_i / S_ij|, which is why a move is scaled by the slowest of its states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from ..core.constants import Constants, valued
from .laws import Laws

# With more moves than this, the network has too many outputs.
MOST_MOVES = 300
# Subsets of states that are examined for moves.
MOST_SUBSETS = 20_000
# Entries of a vector of the null space below this part of the largest are zero.
ZERO = 1e-9


def elementary_vectors(sums: Tensor) -> Tensor:
    """(m, n) the elementary vectors of the null space of sums, (k, n), without their negatives; the
    largest entry of each is 1. Raises ValueError if there are too many."""
    n = sums.shape[1]
    free = [i for i in range(n) if not bool(sums[:, i].any())]
    bound = [i for i in range(n) if i not in free]
    found = [torch.eye(n, dtype=sums.dtype)[i] for i in free]
    supports: list[set[int]] = []
    largest = int(torch.linalg.matrix_rank(sums)) + 1
    if sum(math.comb(len(bound), size) for size in range(1, largest + 1)) > MOST_SUBSETS:
        raise _too_many(f"more than {MOST_MOVES}")
    for size in range(2, largest + 1):
        for subset in combinations(bound, size):
            if any(support <= set(subset) for support in supports):
                continue
            columns = sums[:, list(subset)]
            if int(torch.linalg.matrix_rank(columns)) == size:
                continue
            null = torch.linalg.svd(columns)[2][-1]
            null = null / null[null.abs().argmax()]
            vector = sums.new_zeros(n)
            vector[list(subset)] = torch.where(null.abs() > ZERO, null, torch.zeros_like(null))
            found.append(vector)
            supports.append(set(subset))
    return torch.stack(found)


def directions(laws: Laws) -> tuple[Tensor, Tensor]:
    """(m, n) the moves, and (m,) for each whether it goes one way, with a positive rate. Its
    opposite is then another move. A move of states that may all be negative goes both ways.

    Raises ValueError if there are too many.
    """
    positive = torch.tensor(laws.positive)
    moves: list[Tensor] = []
    one_way: list[bool] = []
    for vector in elementary_vectors(torch.tensor(laws.sums, dtype=torch.float64)):
        signed = bool(positive[vector != 0].any())
        if signed:
            moves += [vector, -vector]
            one_way += [True, True]
        else:
            moves.append(vector)
            one_way.append(False)
    if len(moves) > MOST_MOVES:
        raise _too_many(str(len(moves)))
    return torch.stack(moves), torch.tensor(one_way)


class Moves(Constants):
    """Scaled rates du/dt, (..., n), from one number for each of m moves.

    y_min, y_scale, rate: of the scaled states. fastest: (m,) the largest du/dt of a move at
    the rate one.
    """

    moves: Tensor
    one_way: Tensor
    low: Tensor
    size: Tensor
    top: Tensor
    fastest: Tensor

    def __init__(
        self, laws: Laws, y_min: Sequence[float], y_scale: Sequence[float], rate: Tensor
    ) -> None:
        super().__init__()
        found, one_way = directions(laws)
        dtype = torch.float64
        size = torch.tensor(y_scale, dtype=dtype)
        low = torch.tensor(y_min, dtype=dtype)
        there = found != 0
        pace = torch.where(there, size * rate.cpu() / found.abs(), math.inf).amin(1)
        scaled = (pace[:, None] * found / size).T
        consumed = (found < 0) & torch.tensor(laws.positive)
        most = int(consumed.sum(1).max())
        self.count = len(found)
        self.keep("moves", valued(scaled, dtype))
        self.keep("one_way", valued(one_way, torch.bool))
        self.keep("fastest", valued(scaled.abs().amax(0), dtype))
        self.keep("low", valued(low, dtype))
        self.keep("size", valued(size, dtype))
        # The factors are of order one: a state divided by its largest value.
        top = low + size
        self.keep("top", valued(torch.where(top > 0, top, size), dtype))
        self.names: list[tuple[str, str]] = []
        for k in range(most):
            chosen = consumed & (consumed.cumsum(1) == k + 1)
            self.keep(f"consumed{k}", valued(chosen, dtype))
            self.keep(f"nothing{k}", valued(~chosen.any(1), dtype))
            self.names.append((f"consumed{k}", f"nothing{k}"))

    def forward(self, u: Tensor, out: Tensor, gates: Tensor | None = None) -> Tensor:
        """du/dt at the scaled states u, (..., n), from out, (..., m), and gates, (..., m), between
        zero and one."""
        rates = torch.where(self.one_way, nn.functional.softplus(out), out)
        share = ((self.low + self.size * u) / self.top).unsqueeze(-2)
        for consumed, nothing in self.names:
            factor = (getattr(self, consumed) * share).sum(-1) + getattr(self, nothing)
            rates = rates * factor
        if gates is not None:
            rates = rates * gates
        return (self.moves * rates.unsqueeze(-2)).sum(-1)


def _too_many(count) -> ValueError:
    return ValueError(
        f"conserve with positive learns one rate for each way to exchange states, here {count}, and"
        f" {MOST_MOVES} are the most: name fewer states in conserve, or use one of both"
    )
