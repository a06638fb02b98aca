"""The arguments of a solve as one record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .events import as_times
from .options import Options
from .problem import ODEProblem, as_problem

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..adjoints.base import Adjoint
    from ..backends.registry import Backend
    from ..methods.base import Method
    from .events import Event, PresetTimes


@dataclass(frozen=True)
class Arguments:
    """The arguments of ``solve`` by name. ``solve`` says what they mean."""

    f: Any
    y0: Tensor | np.ndarray | tuple | list | dict | None = None
    t: Sequence[float] | np.ndarray | Tensor | None = None
    method: str | type[Method] | Method = "auto"
    rtol: float = 1e-6
    atol: float | np.ndarray | Tensor | tuple | list | dict = 1e-9
    dense: bool = False
    adjoint: str | type[Adjoint] | Adjoint = "auto"
    args: Any = ()
    jac: Callable | None = None
    params: Iterable[Tensor] | None = None
    mass: Any = None
    consistent: str = "check"
    backend: Backend = "auto"
    batched: bool = False
    by_row: bool | Sequence[bool] | None = None
    throw: bool = True
    first_step: float | None = None
    step_size: float | None = None
    min_step: float = 0.0
    max_step: float = math.inf
    max_steps: int = 100_000
    max_nfe: int | None = None
    events: Event | PresetTimes | Callable | Sequence[Event | PresetTimes | Callable] = ()
    tstops: Sequence[float] | np.ndarray | Tensor = ()
    jumps: Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor = ()
    callback: Callable | None = None
    max_seconds: float | None = None
    nonnegative: bool | Sequence[int] | Tensor | None = None
    domain: Callable | None = None
    names: Sequence[str] | None = None

    def problem(self) -> ODEProblem:
        """What is to be solved. TypeError or ValueError where it makes no sense."""
        return as_problem(self.f, self.y0, self.t, self.args, self.jac, self.mass, self.names)

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
