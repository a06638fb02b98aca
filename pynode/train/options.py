"""The options of a training run, with their checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ..adjoints.forward import COLUMNS, NATIVE_COLUMNS
from ..backends import registry as backends
from .adam import Adam
from .model import ACTIVATIONS
from .option_groups import (
    EndOptions,
    KnownOptions,
    LossOptions,
    ModelOptions,
    SolveOptions,
    StartOptions,
    StepOptions,
)
from .scaling import KINDS

OPTIMIZERS: dict[str, Callable[..., Adam]] = {"adam": Adam, "adamw": partial(Adam, decoupled=True)}
# The values that these options may have.
CHOICES = {
    "activation": ACTIVATIONS,
    "scaling": KINDS,
    "loss": ("mae", "mse"),
    "optimizer": OPTIMIZERS,
    "schedule": ("cosine", "constant"),
}
POSITIVE = ("rtol", "lr", "clip", "time_limit", "checkpoint_every", "atol")
FINITE = ("rtol", "atol", "lr")  # of these
LEAST = {
    "epochs": 0,
    "batch": 0,
    "warm_start": 0,
    "weight_decay": 0,
    "seed": 0,
    "candidates": 1,
    "max_steps": 1,
    "max_failures": 1,
    "relative": 0,
    "sample": 0,
    "keep_every": 0,
    "validation": 0,
    "hold_out": 0,
    "augment": 0,
    "shooting": 0,
    "horizon": 0,
    "segments": 0,
    "neighbours": 3,
    "continuity": 0,
    "normalise": 0,
    "polish": 0,
    "target": 0,
    "patience": 0,
    "collocation": 0,
}


@dataclass(frozen=True, kw_only=True)
class Options(
    ModelOptions,
    KnownOptions,
    SolveOptions,
    LossOptions,
    StepOptions,
    StartOptions,
    EndOptions,
):
    """Options of a training run: the ones of all its bases, which describe them.

    A run with a time limit is not repeatable to the last bit. Raises ValueError for values that
    mean nothing, and TypeError for names that are none.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "weights", tuple(self.weights))
        object.__setattr__(self, "conserve", tuple(self.conserve))
        object.__setattr__(self, "positive", tuple(self.positive))
        backends.choose(self.backend, self.method)
        self._check_choices()
        self._check_positive()
        self._check_least()
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"hidden must be widths of at least one layer, such as 32,32, not {self.hidden}"
            )
        if not self.validation < 1:
            raise ValueError(f"validation must be a fraction below 1, not {self.validation!r}")
        if self.hold_out > 1 and self.hold_out != int(self.hold_out):
            raise ValueError(
                "hold_out must be a number of trajectories or a share below 1, not"
                f" {self.hold_out!r}"
            )
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"weights must be positive numbers, one a state, not {self.weights}")
        if self.shooting and self.sample:
            raise ValueError(
                "sample draws observations of one solve, but shooting divides it into segments: use"
                " one of them"
            )
        if self.horizon and (self.shooting or self.sample):
            raise ValueError(
                "horizon takes the first observations only, and goes with neither shooting nor"
                " sample: use one of them"
            )

    def _check_choices(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}"
                )

    def _check_positive(self):
        for name in POSITIVE:
            value = getattr(self, name)
            if name == "atol" and value is None:
                continue
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
            if name in FINITE and math.isinf(value):
                raise ValueError(f"{name} must be finite")

    def _check_least(self):
        for name, least in LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)!r}")

    @property
    def architecture(self) -> dict[str, Any]:
        """The network as plain data for ``model.build``."""
        return {
            "hidden": list(self.hidden),
            "activation": self.activation,
            "time_input": self.time_input,
        }

    @property
    def tolerances(self) -> dict[str, Any]:
        """The keyword arguments of ``solve`` that bound its errors and its work."""
        if self.atol is None:
            atol = 1e-3 * self.rtol
        else:
            atol = self.atol
        return {
            "method": self.method,
            "rtol": self.rtol,
            "atol": atol,
            "max_steps": self.max_steps,
            "backend": self.backend,
        }

    @property
    def engine(self) -> str:
        """The name of the engine of the solves."""
        return backends.choose(self.backend, self.method)[0].name

    @property
    def forward_columns(self) -> int:
        """How many states and weights forward sensitivities may have, for Levenberg-Marquardt. 0 if
        the solves do not allow them."""
        engine, method = backends.choose(self.backend, self.method)
        if engine.name == "native":
            return NATIVE_COLUMNS
        if engine.name == "torch" and method != "auto" and not method.state_tensors:
            return COLUMNS
        return 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data: numbers, texts and lists."""
        plain = asdict(self)
        for name, value in plain.items():
            if isinstance(value, tuple):
                plain[name] = list(value)
        return plain
