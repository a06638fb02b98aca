"""The options of a solve, and their checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .layout import Layout


# Values that are tested as Python floats, in a fraction of the time of tensors.
FEW = 64


@dataclass(frozen=True)
class Options:
    """Tolerances and limits of a solve. Times and steps are in units of t, atol in units of y.

    rtol: float.
    atol: float, or one value for each component, in the structure of y0 or flat, (n,).
    first_step: the first step; None lets the method choose it.
    step_size: takes fixed steps of this size without error control. If a state overflows, the solve
        ends with Status.DIVERGED.
    min_step, max_step: bounds of |h|.
    max_steps: limit of attempted steps.
    max_nfe: limit of evaluations of f. It also holds inside a step, and the solver drops a step
        that reaches it. A step of RKC can take thousands of evaluations; with None its limit is 10
        max_steps. With batched=True the limit is that of all rows together.
    tstops: times at which a step must end.
    jumps: times at which f jumps, of an engine that crosses them within one solve (native). Those
        of ``solve`` divide it into several.
    """

    rtol: float = 1e-6
    atol: Any = 1e-9
    first_step: float | None = None
    step_size: float | None = None
    min_step: float = 0.0
    max_step: float = math.inf
    max_steps: int = 100_000
    max_nfe: int | None = None
    tstops: tuple = ()
    jumps: tuple = ()

    def __post_init__(self) -> None:
        if not isinstance(self.rtol, (int, float)) or not math.isfinite(self.rtol) or self.rtol < 0:
            raise ValueError(
                f"rtol must be a non-negative number, not {self.rtol!r}; 1e-6 is a good start"
            )
        for name in ("first_step", "step_size"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(
                    f"{name} must be positive, not {value!r}; the direction of time comes from t"
                )
        if not 0 <= self.min_step <= self.max_step or self.max_step <= 0:
            raise ValueError(
                f"0 <= min_step <= max_step must hold, not min_step={self.min_step},"
                f" max_step={self.max_step}"
            )
        if self.max_steps < 1 or (self.max_nfe is not None and self.max_nfe < 1):
            raise ValueError("max_steps and max_nfe must be at least 1")

    def flat_atol(self, layout: Layout, y0: Tensor) -> torch.Tensor:
        """atol as a 0-d or (n,) tensor of the state's dtype and device. Raise ValueError if it does
        not fit y0, (n,)."""
        eps = torch.finfo(layout.dtype).eps
        tiny = torch.finfo(layout.dtype).tiny
        if isinstance(self.atol, (int, float)):
            if 0 < self.atol < math.inf and self.rtol >= 4 * eps:
                # What the tests below find is known. A small solve notices their cost.
                number = max(float(self.atol), tiny)
                return torch.tensor(number, dtype=layout.dtype, device=layout.device)
            atol = torch.tensor(float(self.atol), dtype=layout.dtype, device=layout.device)
        else:
            value = self.atol
            if not layout.single and isinstance(value, (tuple, list, dict)):
                value = layout.ravel(value)
            try:
                atol = (
                    torch.as_tensor(value, dtype=layout.dtype, device=layout.device)
                    .detach()
                    .reshape(-1)
                )
            except (TypeError, ValueError):
                raise TypeError(
                    f"atol must be a number, or one number for each state, not {value!r}"
                ) from None
            if atol.numel() == 1:
                atol = atol.reshape(())
            elif atol.numel() != layout.size:
                raise ValueError(
                    f"atol has {atol.numel()} values for {layout.size} states; give one number, or"
                    " one for each state"
                )
        if self.rtol >= 4 * eps and atol.numel() <= FEW and _between(atol, tiny):
            return atol
        if not bool(torch.isfinite(atol).all()) or bool((atol < 0).any()):
            raise ValueError(
                f"atol must be finite and not negative, not {self.atol!r}; 1e-9 is a good start"
            )
        if self.rtol == 0 and bool((atol == 0).any()):
            raise ValueError(
                "rtol and atol are both zero for some state, and no step can satisfy this; give one"
                " of them a value"
            )
        size = y0.detach().abs()
        if bool((atol + self.rtol * size < 4 * eps * size).any()):
            raise ValueError(
                f"rtol = {self.rtol:g} with this atol asks for more digits than {layout.dtype} has"
                f" (about {4 * eps:.1g} of y0); loosen them"
                + ("" if layout.dtype == torch.float64 else ", or use float64")
            )
        # A zero component without atol has the scale 0. Its error 0 must not become 0/0.
        return atol.clamp(min=tiny)


def _between(atol, tiny):
    """Whether all values are finite and normal, so that no test can fail."""
    return all(tiny <= value < math.inf for value in atol.reshape(-1).tolist())
