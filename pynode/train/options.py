"""What the user may choose about a training run, checked at the door."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from ..backends import registry as backends
from .model import ACTIVATIONS
from .scaling import KINDS

LOSSES = ("mae", "mse")


@dataclass(frozen=True)
class Options:
    """Choices of a training run. rtol and atol are those of the scaled states, which are of the order of one.

    hidden, activation, time_input, scaling: the field (see model and scaling); time_input gives it the time as an
    input.
    loss: 'mae' or 'mse', of the scaled states over all observed values.
    method, rtol, atol, max_steps, backend: of the solves; atol None means a thousandth of rtol.
    epochs, lr, weight_decay, clip, batch: Adam's, its rate falling as a cosine; clip bounds the norm of the gradient;
    batch
        is the number of trajectories per step, 0 for all.
    warm_start: iterations before the first solve, 0 for none; candidates: random starts that it chooses from.
    time_limit: seconds after which training ends, its rate having fallen with the time. The run is then not
    repeatable to
        the last bit. checkpoint_every: seconds. max_failures: failed solves in a row after which training gives up.
    """

    hidden: tuple[int, ...] = (32, 32)
    activation: str = "gelu"
    time_input: bool = False
    scaling: str = "decades"
    loss: str = "mae"
    method: str = "fbdf"
    rtol: float = 1e-4
    atol: float | None = None
    max_steps: int = 5000
    backend: str = "auto"
    epochs: int = 500
    lr: float = 2e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    batch: int = 0
    seed: int = 0
    warm_start: int = 1500
    candidates: int = 4
    time_limit: float = math.inf
    checkpoint_every: float = 30.0
    max_failures: int = 8

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        backends.choose(self.backend, self.method)
        for name, known in (("activation", ACTIVATIONS), ("scaling", KINDS), ("loss", LOSSES)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be widths of at least one layer, such as 32,32, not {self.hidden}")
        positive = ("rtol", "lr", "clip", "time_limit", "checkpoint_every")
        for name in positive + (("atol",) if self.atol is not None else ()):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        for name, least in (("epochs", 0), ("batch", 0), ("warm_start", 0), ("weight_decay", 0), ("seed", 0),
                            ("candidates", 1), ("max_steps", 1), ("max_failures", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)!r}")

    @property
    def architecture(self) -> dict:
        """The network as plain data, as ``model.build`` takes it."""
        return {"hidden": list(self.hidden), "activation": self.activation, "time_input": self.time_input}

    @property
    def tolerances(self) -> dict:
        """The keyword arguments of ``solve`` that bound its errors and its work."""
        atol = 1e-3 * self.rtol if self.atol is None else self.atol
        return {"method": self.method, "rtol": self.rtol, "atol": atol, "max_steps": self.max_steps, "backend": self.backend}

    def as_dict(self) -> dict:
        return {**asdict(self), "hidden": list(self.hidden)}
