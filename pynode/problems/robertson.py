"""Robertson's autocatalytic reaction: three species, rate constants nine decades apart."""

from typing import ClassVar

import torch

from pynode.problems.base import Problem
from pynode.problems.bilinear import MassAction

SOURCE = (
    "H. H. Robertson, The solution of a set of reaction rate equations, in J. Walsh (ed.),"
    " Numerical Analysis, an Introduction, Academic Press 1966, 178-182; Hairer & Wanner II, sec."
    " IV.1; ROBER in Mazzia & Magherini, Test Set for Initial Value Problem Solvers, release 2.4,"
    " 2008."
)


class Robertson(MassAction):
    """dA/dt = -k1 A + k3 B C,  dB/dt = k1 A - k3 B C - k2 B^2,  dC/dt = k2 B^2.

    y: (..., 3) fractions A, B, C of the whole, which is conserved; t in seconds; k1 in 1/s, k2 and
    k3 in 1/s per fraction. Robertson 1966; Hairer & Wanner II, sec. IV.1.
    """

    defaults: ClassVar = {"k1": 0.04, "k2": 3e7, "k3": 1e4}
    species: ClassVar = ("A", "B", "C")
    time_unit: ClassVar = "s"
    reactions: ClassVar = {"k1": "A -> B", "k2": "2 B -> B + C", "k3": "B + C -> A + C"}


def robertson(
    dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Problem:
    """Robertson's problem over ten decades of time, to 1e5 s. B never exceeds 4e-5, hence its own
    atol."""
    return Problem(
        name="robertson",
        field=Robertson(dtype, device),
        y0=torch.tensor([1.0, 0.0, 0.0], dtype=dtype, device=device),
        tspan=(0.0, 1e5),
        rtol=1e-6,
        atol=(1e-8, 1e-12, 1e-8),
        stiff=True,
        source=SOURCE,
        t_eval=torch.logspace(-5, 5, 50, dtype=torch.float64, device=device),
    )
