"""The sizes of the components, compared with their absolute tolerances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..algebra.jacobian import Jacobian
from ..algebra.products import Products
from ..core.status import RejectStep
from ..core.vector_field import VectorField
from .reference_solve import ReferenceSolve
from .spectrum import DENSE_UP_TO

ABOVE = 10.0  # the largest value of a component should be at least so many atol
MATTERS = 1e-3  # a component matters if at least this part of some f_j depends on it
POINTS = 10
PROPOSED = 1e-3  # the proposed atol is this, times rtol, times the largest value


@dataclass(frozen=True)
class Scales:
    """The sizes of the components.

    largest: (n,) largest |y_i| of the reference solve.
    atol: (n,) as given.
    below_atol: flat indices of components that f depends on but that their atol hides.
    proposed: (n,) a suitable atol, the given one where nothing is wrong.
    """

    largest: np.ndarray
    atol: np.ndarray
    below_atol: tuple[int, ...]
    proposed: np.ndarray

    @property
    def bad(self) -> bool:
        """Whether atol hides some component."""
        return bool(self.below_atol)

    def decades(self) -> float:
        """Decades between the largest and the smallest of the components' largest values, without
        components that stay zero."""
        moving = self.largest[self.largest > 0]
        if len(moving):
            return float(math.log10(moving.max() / moving.min()))
        return 0.0


def scales(
    field: VectorField, reference: ReferenceSolve, rtol: float, atol: torch.Tensor
) -> Scales:
    """The sizes of the components in the reference solve. atol: 0-d or (n,) tensor."""
    largest = reference.states.abs().amax(0).to("cpu", torch.float64).numpy()
    row_atol = np.broadcast_to(atol.to("cpu", torch.float64).numpy(), largest.shape)
    suspects = np.flatnonzero((largest > 0) & (largest < ABOVE * row_atol))
    if len(suspects):
        weights = _influence(field, reference, suspects)
    else:
        weights = {}
    below_atol = tuple(int(i) for i in suspects if weights[int(i)] > MATTERS)
    proposed = row_atol.copy()
    for i in below_atol:
        proposed[i] = _rounded(PROPOSED * rtol * largest[i])
    return Scales(largest, row_atol, below_atol, proposed)


def _influence(field, reference, suspects) -> dict:
    """{flat index: the largest part of some f_j that the component's largest value causes}, along
    the reference solve."""
    if field.size <= DENSE_UP_TO:
        jacobian = Jacobian(field)
    else:
        jacobian = None
    rows = range(0, len(reference.times), max(1, len(reference.times) // POINTS))
    largest = reference.states.abs().amax(0)
    effects = []
    f_size = torch.zeros_like(largest)
    units = torch.zeros(len(suspects), field.size, dtype=field.dtype, device=field.device)
    units[torch.arange(len(suspects)), torch.as_tensor(suspects, device=field.device)] = largest[
        suspects
    ]
    for k in rows:
        t = reference.times[k]
        y = reference.states[k]
        try:
            with torch.no_grad():
                f_size = torch.maximum(f_size, field(t, y).abs())
            if jacobian is not None:
                columns = units @ jacobian(t, y).T
            else:
                columns = Products(field, t, y).jvps(units)
        except RejectStep:
            continue
        effects.append(columns.detach().abs())
    if not effects:
        return dict.fromkeys(map(int, suspects), 0.0)
    floor = f_size.clamp_min(1e-12 * float(f_size.max()) + 1e-300)
    part = (torch.stack(effects).amax(0) / floor).nan_to_num(0.0)
    if len(suspects) < int((largest > 0).sum()):
        # The effect of a component on itself does not matter for the other components.
        part[torch.arange(len(suspects)), torch.as_tensor(suspects, device=field.device)] = 0.0
    return {int(i): float(row.max()) for i, row in zip(suspects, part)}


def _rounded(x) -> float:
    """x rounded down to one digit: 3.65e-14 becomes 3e-14."""
    power = 10.0 ** math.floor(math.log10(x))
    return float(f"{math.floor(x / power * (1 + 1e-12)) * power:.1g}")
