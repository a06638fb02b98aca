"""Rooted trees and their elementary weights: the order conditions of one-step methods (Butcher
1963)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import numpy as np


@dataclass(frozen=True, order=True)
class Tree:
    """A rooted tree by its sons. Hairer, Norsett & Wanner I, sec. II.2."""

    sons: tuple = ()

    @property
    def order(self) -> int:
        """Number of vertices."""
        return 1 + sum(son.order for son in self.sons)

    @property
    def density(self) -> int:
        """gamma(tree): for each vertex the order of the subtree below it, all multiplied."""
        value = self.order
        for son in self.sons:
            value *= son.density
        return value

    def weights(self, a: np.ndarray, single: np.ndarray | None = None) -> np.ndarray:
        """Elementary weights Phi_i, one for each stage: products over the sons of sum_j a_ij
        Phi_j(son).

        ``single`` replaces ``a`` at a vertex with exactly one son (Rosenbrock methods).
        """
        value = np.ones(len(a))
        if single is not None and len(self.sons) == 1:
            matrix = single
        else:
            matrix = a
        for son in self.sons:
            value = value * (matrix @ son.weights(a, single))
        return value


@cache
def _trees_of(order: int) -> tuple:
    if order == 1:
        return (Tree(),)
    return tuple(sorted({Tree(tuple(sorted(forest))) for forest in _forests(order - 1, order - 1)}))


def _forests(vertices: int, largest: int) -> Iterator[tuple]:
    """Multisets of trees with ``vertices`` vertices in total; each tree has at most ``largest``."""
    if vertices == 0:
        yield ()
        return
    for size in range(min(vertices, largest), 0, -1):
        for count in range(1, vertices // size + 1):
            for same in combinations_with_replacement(_trees_of(size), count):
                for rest in _forests(vertices - size * count, size - 1):
                    yield same + rest


def rooted_trees(order: int) -> list:
    """All rooted trees with at most ``order`` vertices (1, 2, 4, 8, 17, 37, 85, 200 of them)."""
    return [tree for size in range(1, order + 1) for tree in _trees_of(size)]
