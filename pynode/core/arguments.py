"""The arguments of a solve as one record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .events import as_times
from .options import Options
from .problem import ODEProblem, as_problem


@dataclass(frozen=True)
class Arguments:
    """The arguments of ``solve`` by name. ``solve`` says what they mean."""

    f: object
    y0: object = None
    t: object = None
    method: object = "auto"
    rtol: float = 1e-6
    atol: object = 1e-9
    dense: bool = False
    adjoint: object = "auto"
    args: tuple = ()
    jac: object = None
    params: object = None
    mass: object = None
    consistent: str = "check"
    backend: object = "auto"
    batched: bool = False
    by_row: object = None
    throw: bool = True
    first_step: float | None = None
    step_size: float | None = None
    min_step: float = 0.0
    max_step: float = math.inf
    max_steps: int = 100_000
    max_nfe: int | None = None
    events: object = ()
    tstops: object = ()
    jumps: object = ()
    callback: object = None
    max_seconds: float | None = None
    nonnegative: object = None
    domain: object = None

    def problem(self) -> ODEProblem:
        """What is to be solved. TypeError or ValueError where it makes no sense."""
        return as_problem(self.f, self.y0, self.t, self.args, self.jac, self.mass)

    def options(self) -> Options:
        """How accurately and within which limits. ValueError where it makes no sense."""
        return Options(
            rtol=self.rtol,
            atol=self.atol,
            first_step=self.first_step,
            step_size=self.step_size,
            min_step=self.min_step,
            max_step=self.max_step,
            max_steps=self.max_steps,
            max_nfe=self.max_nfe,
            tstops=tuple(as_times(self.tstops, "tstops").detach().tolist()),
        )
