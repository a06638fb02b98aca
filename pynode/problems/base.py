"""The parts of a test problem: a vector field with named constants, a start, a time span and
tolerances."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pynode.core.constants import Constants, valued
from pynode.core.problem import ODEProblem, Times
from pynode.core.state_names import names_of_field


class Field(Constants, ABC):
    """A vector field dy/dt = f(t, y). Its physical constants are one parameter vector `k`, and
    `defaults` names them.

    It is one vector, because gathering scalars costs more than the chemistry: `torch.stack` of the
    25 rate constants of the pollution problem takes 7 us, its whole field 9 us. `named` gives every
    constant, or its gradient, by name:

        field.named()["k1"]              value, a view of the vector
        field.named(field.k.grad)["k1"]  gradient after backward()

    The matrices of a formula are buffers outside of the state dict, because they are code and not
    data. `forward` and `jac` read them from `self._buffers`: an attribute that nn.Module must look
    up costs 0.5 us, as much as half an operation.
    """

    # Name and published value of each constant, in the order of `k`.
    defaults: ClassVar[dict[str, float]]
    # No buffer of a field is None.
    _buffers: dict[str, Tensor]  # type: ignore[assignment]

    def __init__(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.k = nn.Parameter(
            torch.tensor(list(self.defaults.values()), dtype=dtype, device=device)
        )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the p constants, in the order of the vector `k`."""
        return tuple(self.defaults)

    def parameter_vector(self) -> nn.Parameter:
        """(p,) the constants."""
        return self.k

    def named(self, vector: Tensor | None = None) -> dict[str, Tensor]:
        """The (..., p) vector, by default the constants themselves, split into (...) tensors by
        name."""
        if vector is None:
            vector = self.k
        return dict(zip(self.defaults, vector.unbind(-1), strict=True))

    @abstractmethod
    def forward(self, t: Tensor | float, y: Tensor) -> Tensor:
        """dy/dt, (..., n), at the states y, (..., n). None of these fields depends on t."""

    @abstractmethod
    def jac(self, t: Tensor | float, y: Tensor) -> Tensor:
        """df_i/dy_j, (..., n, n), at the states y, (..., n)."""

    def _matrix(self, name: str, rows: list) -> None:
        """Register a constant matrix of the formula in the dtype and on the device of `k`."""
        self.keep(name, valued(rows, self.k.dtype, self.k.device), self.k.device)


def apply(matrix: Tensor, y: Tensor, offset: Tensor | None = None) -> Tensor:
    """matrix y + offset, (..., m), for the matrix (m, n), y (..., n) and offset (m,).

    `nn.functional.linear` does this for any batch, but it takes 3.0 us for a single vector, and
    `addmv` takes 1.4.
    """
    if y.dim() > 1:
        return nn.functional.linear(y, matrix, offset)
    if offset is None:
        return torch.mv(matrix, y)
    return torch.addmv(offset, matrix, y)


@dataclass(frozen=True, eq=False)
class Problem:
    """An initial value problem of the literature. Two Problems are never equal, because they share
    no tensors.

    y0: (n,) start at tspan[0].
    tspan: (t0, t1) in the problem's unit of time.
    rtol, atol: suggested tolerances. atol is in the unit of y, one for all components or one for
        each. It is small enough for the smallest species that drives the others.
    t_eval: (T,) suggested output times in float64, if evenly spaced ones would miss the transient.
    """

    name: str
    field: nn.Module
    y0: Tensor
    tspan: tuple[float, float]
    rtol: float
    atol: float | tuple[float, ...]
    stiff: bool
    source: str
    t_eval: Tensor | None = None

    def __post_init__(self) -> None:
        if self.y0.dim() != 1:
            raise ValueError(
                f"y0 of {self.name} has shape {tuple(self.y0.shape)}: give one state, a vector of"
                " (n,)."
            )
        if isinstance(self.atol, tuple) and len(self.atol) != len(self.y0):
            raise ValueError(
                f"{self.name}: {len(self.atol)} atol for {len(self.y0)} components; give one for"
                " each, or a float."
            )

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the constants of the field, in the order of its vector `k`; empty for a module
        that names none."""
        return tuple(getattr(self.field, "parameter_names", ()))

    @property
    def state_names(self) -> tuple[str, ...] | None:
        """The names of the n components of y, if the field has them."""
        return names_of_field(self.field)

    def ode_problem(self, y0: Tensor | None = None, t: Times | None = None) -> ODEProblem:
        """What ``solve`` takes. y0, t: other values than those of the problem. By default the times
        are the suggested ones, behind the start, or else 101 that are evenly spaced."""
        if y0 is None:
            y0 = self.y0
        if t is None:
            t = self.times()
        return ODEProblem(self.field, y0, t)

    def times(self) -> Tensor:
        """The start and the suggested output times, (T,) float64, or 101 that are evenly spaced
        where none are suggested."""
        if self.t_eval is None:
            return torch.linspace(*self.tspan, 101, dtype=torch.float64)
        suggested = self.t_eval.to("cpu", torch.float64)
        start = torch.tensor(self.tspan[:1], dtype=torch.float64)
        return torch.cat((start, suggested[suggested != start]))
