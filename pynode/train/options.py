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
from .scaling import KINDS

LOSSES = ("mae", "mse")
OPTIMIZERS: dict[str, Callable[..., Adam]] = {"adam": Adam, "adamw": partial(Adam, decoupled=True)}
SCHEDULES = ("cosine", "constant")
# The values that these options may have.
CHOICES = {
    "activation": ACTIVATIONS,
    "scaling": KINDS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
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


@dataclass(frozen=True)
class Options:
    """Options of a training run. rtol and atol refer to the scaled states, which are of order one.

    The field. hidden, activation, time_input, scaling: see model and scaling. time_input makes the
        time an input.
        augment: the number of hidden states, which nobody observed; their starts are learned, one
        for each trajectory. learn_starts: learn the starts of the observed states as well, whose
        first observations then count as the others.
        warp: learn the logarithm of positive states that span decades, and the arcsinh of states
        with rare high peaks (warp.py).
    What is known. conserve: sums that stay constant, such as 'A + 2*B'. positive: names of states
        that stay positive, or 'all'. known: where a known part f(t, y) of dy/dt stands, such as
        'file.py:f', to which the network adds the rest; ``fit`` gets the function itself.
    The loss. loss: 'mae' or 'mse', of the scaled states over all observed values. weights: a factor
        for the errors of each state, () for none. relative: if positive, an error is relative to
        the observed value, or to this fraction of the state's range if the value is smaller.
        sample: the number of observations of each trajectory that are drawn anew for every epoch,
        evenly over the decades of time, or over the observations where these are not spread over
        decades; 0 for all. validation: the fraction of the observation
        times that is held out; its loss then chooses the best weights. hold_out: the number of
        trajectories, or the share below one, that training never sees; the verdict looks at them.
        shooting: the number of
        observations in a segment of multiple shooting, for the first half of the epochs; 0 for one
        solve a trajectory. continuity: the weight of the errors where segments end. horizon: the
        number of times that the horizon grows, from the first part of the times to all of them, in
        the first half of the epochs; 0 for none. segments: at most so many epochs of Levenberg-
        Marquardt before these, in segments that grow from ``shooting`` observations, or four, to
        all.
    The solves. method, rtol, atol, max_steps, backend. atol None means a thousandth of rtol.
    The start. collocation: iterations that fit slopes of the smoothed observations. warm_start:
        iterations on linearised trajectories. 0 for none. neighbours: the observations that smooth
        one, more for more noise. candidates: the number of random starts from which warm_start
        chooses. compare_starts: make a start by each of the two alone, and keep the one whose first
        solve has the lower loss; otherwise the second follows the first.
    The steps. epochs, optimizer ('adam', or 'adamw' with decoupled weight decay), lr, schedule
        ('cosine' or 'constant'), weight_decay. batch: the number of trajectories per step, 0 for
        all. normalise: if positive, every gradient gets this norm; otherwise clip limits it.
        polish: epochs of Levenberg-Marquardt after these, from the best weights. target: the polish
        ends when the root mean square of the weighted errors is below it. patience: either
        phase ends after so many epochs without a loss that is lower by a thousandth; 0 for never.
    The end. time_limit: seconds after which training ends; the rate falls with the time. With a
        polish, at most half of them are for the epochs before it. A run with a time limit is not
        repeatable to the last bit. checkpoint_every: seconds. keep_every: epochs between models
        that are kept as epochs/epoch00010.pt, 0 for none. max_failures: training ends after so many
        failed solves in a row.
    """

    hidden: tuple[int, ...] = (32, 32)
    activation: str = "gelu"
    time_input: bool = False
    scaling: str = "decades"
    warp: bool = False
    augment: int = 0
    learn_starts: bool = False
    conserve: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    known: str = ""
    loss: str = "mae"
    weights: tuple[float, ...] = ()
    relative: float = 0.0
    sample: int = 0
    validation: float = 0.0
    hold_out: float = 0.0
    shooting: int = 0
    horizon: int = 0
    segments: int = 0
    continuity: float = 1.0
    method: str = "fbdf"
    rtol: float = 1e-4
    atol: float | None = None
    max_steps: int = 5000
    backend: str = "auto"
    epochs: int = 500
    optimizer: str = "adam"
    lr: float = 2e-3
    schedule: str = "cosine"
    weight_decay: float = 0.0
    normalise: float = 0.0
    clip: float = 1.0
    polish: int = 0
    target: float = 0.0
    patience: int = 0
    batch: int = 0
    seed: int = 0
    collocation: int = 0
    neighbours: int = 5
    compare_starts: bool = False
    warm_start: int = 1500
    candidates: int = 4
    time_limit: float = math.inf
    checkpoint_every: float = 30.0
    keep_every: int = 0
    max_failures: int = 8

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
