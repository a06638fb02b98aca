"""Systems whose rates are products of two linear factors: mass-action chemistry and similar
systems."""

from typing import ClassVar

import torch
from torch import Tensor

from pynode.core.constants import valued
from pynode.core.reaction_equations import sides
from pynode.problems.base import Field, apply


class Bilinear(Field):
    """dy/dt = S r with the rates r = c * y[first] * (A y + b): r and c (..., m), S (n, m), A (m,
    n), b (m,).

    The coefficients c are the constants `k` unless a subclass computes them from `k`. One vector
    operation computes all rates, so that 25 reactions cost as much as three: 9 us, where one
    expression for each reaction takes 120.
    """

    def _tables(
        self, first: list[int], A: list[list[float]], b: list[float], S: list[list[float]]
    ) -> None:
        self.keep("first", valued(first, device=self.k.device), self.k.device)
        self._matrix("A", A)
        self._matrix("b", b)
        self._matrix("S", S)
        self._matrix("select", [[float(i == j) for j in range(len(S))] for i in first])

    def coefficients(self) -> Tensor:
        """(m,) coefficient of every rate."""
        return self.k

    def forward(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, see Field."""
        fixed = self._buffers
        second = apply(fixed["A"], y, fixed["b"])
        return apply(fixed["S"], self.coefficients() * y.index_select(-1, fixed["first"]) * second)

    def jac(self, t: torch.Tensor | float, y: torch.Tensor) -> torch.Tensor:
        """df/dy, see Field."""
        fixed = self._buffers
        c = self.coefficients()
        # Product rule: the slope of y[first] times the second factor, and y[first] times the slope
        # of the second.
        second = (c * apply(fixed["A"], y, fixed["b"])).unsqueeze(-1)
        first = (c * y.index_select(-1, fixed["first"])).unsqueeze(-1)
        return fixed["S"] @ torch.addcmul(second * fixed["select"], first, fixed["A"])


class MassAction(Bilinear):
    """A reaction network by the law of mass action. `reactions` gives the reaction of each
    constant.

    "A + B -> 2 C" has the rate k y_A y_B. It uses one A and one B and makes two C. There are at
    most two species on the left. The right side may be empty, if the products do not matter.
    `species` gives the order of the components of y.
    """

    species: ClassVar[tuple[str, ...]]
    reactions: ClassVar[dict[str, str]]

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the components of y."""
        return self.species

    def __init__(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__(dtype, device)
        equations = [sides(self.reactions[name]) for name in self.defaults]
        lefts = [list(left.elements()) for left, _ in equations]
        self._tables(
            first=[self.species.index(left[0]) for left in lefts],
            # The second factor is 1 for a reaction of one species, the concentration of the partner
            # for one of two.
            A=[[float(left[1:] == [name]) for name in self.species] for left in lefts],
            b=[float(len(left) == 1) for left in lefts],
            S=[
                [float(right[name] - left[name]) for left, right in equations]
                for name in self.species
            ],
        )
