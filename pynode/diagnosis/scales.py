"""The sizes of the components against their absolute tolerances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..algebra.jacobian import Jacobian
from ..algebra.products import Products
from ..core.status import RejectStep
from .spectrum import DENSE_UP_TO

ABOVE = 10.0  # times atol that the largest value of a component should reach at least
MATTERS = 1e-3  # part of some f_j that hangs on a component, from which on it matters
POINTS = 10
PROPOSED = 1e-3  # times rtol and the largest value: the atol proposed


@dataclass(frozen=True)
class Scales:
    """largest: (n,) largest |y_i| of the walk; atol: (n,) as given; below_atol: flat indices of
    components that f depends on and that do not stand out from their atol; proposed: (n,) atol that
    suits, the given one where nothing is wrong."""

    largest: np.ndarray
    atol: np.ndarray
    below_atol: tuple
    proposed: np.ndarray

    @property
    def bad(self) -> bool:
        return bool(self.below_atol)

    def decades(self) -> float:
        """Decades between the largest and the smallest of the components' largest values, those
        that stay zero aside."""
        moving = self.largest[self.largest > 0]
        if len(moving):
            return float(math.log10(moving.max() / moving.min()))
        return 0.0


def scales(field, walk, rtol, atol) -> Scales:
    """Of the components in the walk. atol: 0-d or (n,) tensor."""
    largest = walk.states.abs().amax(0).to("cpu", torch.float64).numpy()
    given = np.broadcast_to(atol.to("cpu", torch.float64).numpy(), largest.shape)
    suspects = np.flatnonzero((largest > 0) & (largest < ABOVE * given))
    if len(suspects):
        weights = _influence(field, walk, suspects)
    else:
        weights = {}
    below_atol = tuple(int(i) for i in suspects if weights[int(i)] > MATTERS)
    proposed = given.copy()
    for i in below_atol:
        proposed[i] = _rounded(PROPOSED * rtol * largest[i])
    return Scales(largest, given, below_atol, proposed)


def _influence(field, walk, suspects) -> dict:
    """{flat index: the largest part of some f_j that the component's largest value brings about},
    along the walk."""
    jacobian = Jacobian(field) if field.size <= DENSE_UP_TO else None
    rows = range(0, len(walk.times), max(1, len(walk.times) // POINTS))
    largest = walk.states.abs().amax(0)
    found = []
    f_size = torch.zeros_like(largest)
    units = torch.zeros(len(suspects), field.size, dtype=field.dtype, device=field.device)
    units[torch.arange(len(suspects)), torch.as_tensor(suspects, device=field.device)] = largest[
        suspects
    ]
    for k in rows:
        t = walk.times[k]
        y = walk.states[k]
        try:
            with torch.no_grad():
                f_size = torch.maximum(f_size, field(t, y).abs())
            if jacobian is not None:
                columns = units @ jacobian(t, y).T
            else:
                columns = Products(field, t, y).jvps(units)
        except RejectStep:
            continue
        found.append(columns.detach().abs())
    if not found:
        return dict.fromkeys(map(int, suspects), 0.0)
    floor = f_size.clamp_min(1e-12 * float(f_size.max()) + 1e-300)
    part = (torch.stack(found).amax(0) / floor).nan_to_num(0.0)
    if len(suspects) < int((largest > 0).sum()):
        # What a component does to itself alone is no concern of those that stand out.
        part[torch.arange(len(suspects)), torch.as_tensor(suspects, device=field.device)] = 0.0
    return {int(i): float(row.max()) for i, row in zip(suspects, part)}


def _rounded(x) -> float:
    """To one digit, downwards: 3.65e-14 becomes 3e-14."""
    power = 10.0 ** math.floor(math.log10(x))
    return float(f"{math.floor(x / power * (1 + 1e-12)) * power:.1g}")
