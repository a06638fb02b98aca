"""The options of a training run, in groups. The command line has the same groups.

This module imports no torch, because ``pynode train --help`` must not wait for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from ..core.given import Given
from ..core.option_kinds import (
    FROM_DATA,
    SWITCH,
    Backend,
    Float,
    Integer,
    Numbers,
    Text,
    Widths,
    listed,
)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Given):
    """The network and its scaling."""

    hidden: Annotated[Widths, FROM_DATA] = (32, 32)
    """Widths of the hidden layers, such as 32,32."""
    activation: Annotated[Literal["gelu", "tanh", "silu", "relu", "softplus", "elu"], FROM_DATA] = (
        "gelu"
    )
    """Activation function."""
    time_input: bool = False
    """Let the dynamics depend on time."""
    scaling: Annotated[Literal["decades", "kim"], FROM_DATA] = "decades"
    """kim uses one time scale; decades uses one per state, and rates over decades."""
    warp: bool = False
    """Learn the logarithm of positive states that span decades, and the arcsinh of states with rare
    high peaks."""


@dataclass(frozen=True, kw_only=True)
class KnownOptions(Given):
    """What is known of the dynamics."""

    augment: Integer = 0
    """Hidden states, which nobody observed. Their starts are learned for each trajectory."""
    learn_starts: Annotated[bool, SWITCH, FROM_DATA] = False
    """Learn the starts of the trajectories. Their first observations then count as others."""
    conserve: Annotated[tuple[str, ...], listed(str, "sums", "SUMS")] = ()
    """Sums that stay constant, such as A+2*B, separated by commas."""
    positive: Annotated[tuple[str, ...], listed(str, "states", "STATES")] = ()
    """States that stay positive, separated by commas, or all."""
    known: Annotated[str, Parameter(metavar="FILE.py:f")] = ""
    """A known part f(t, y) of dy/dt, to which the network adds the rest. Runs the code of the
    file. ``fit`` gets the function itself."""


@dataclass(frozen=True, kw_only=True)
class SolveOptions(Given):
    """The solves. Tolerances refer to the scaled states, which are of order one."""

    method: Annotated[Text, FROM_DATA] = "fbdf"
    """Method of the solves, see pynode methods."""
    rtol: Annotated[Float, FROM_DATA] = 1e-4
    """Relative tolerance."""
    atol: Float | None = None
    """Absolute tolerance of the scaled states. Without it: a thousandth of rtol."""
    max_steps: Integer = 5000
    """Maximum number of steps of one solve."""
    backend: Backend = "auto"
    """Engine of the solves and gradients, see docs/native.md and docs/julia.md. auto takes native
    code where it serves."""


@dataclass(frozen=True, kw_only=True)
class LossOptions(Given):
    """The loss and the observations that it counts."""

    loss: Literal["mae", "mse"] = "mae"
    """Mean absolute or squared error of the scaled states, over all observed values."""
    weights: Numbers = ()
    """One factor per state for its errors, separated by commas."""
    relative: Float = 0.0
    """If positive: an error is relative to the observed value, or to this fraction of the range of
    the state if the value is smaller."""
    sample: Integer = 0
    """Observations of each trajectory to draw per epoch, evenly over the decades of time, or over
    the observations where these are not spread over decades. 0 takes all."""
    validation: Float = 0.0
    """Fraction of the observation times to hold out. They select the best model."""
    hold_out: Float = 0.0
    """Number of trajectories, or their share below 1, that only the verdict sees."""
    shooting: Annotated[Integer, FROM_DATA] = 0
    """Observations per segment of multiple shooting, in the first half of the epochs. 0 disables
    it."""
    horizon: Annotated[Integer, FROM_DATA] = 0
    """Grow the horizon in N steps, from the first times to all, in the first half of the epochs. 0
    takes all at once."""
    segments: Annotated[Integer, FROM_DATA] = 0
    """First epochs of Levenberg-Marquardt, in segments that grow from --shooting observations, or
    four, to the whole."""
    continuity: Float = 1.0
    """Weight of the errors at the ends of segments."""


@dataclass(frozen=True, kw_only=True)
class StepOptions(Given):
    """The epochs and their steps."""

    epochs: Annotated[Integer, FROM_DATA] = 500
    """Passes over all trajectories."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW with decoupled weight decay."""
    lr: Float = 2e-3
    """Initial learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate changes."""
    batch: Integer = 0
    """Trajectories per step. 0 takes all."""
    weight_decay: Float = 0.0
    """Weight decay."""
    normalise: Float = 0.0
    """Norm that every gradient gets. 0 keeps it."""
    clip: Float = 1.0
    """Maximum norm of the gradient, if --normalise is 0."""
    polish: Annotated[Integer, FROM_DATA] = 0
    """Epochs of Levenberg-Marquardt at the end, from the best weights."""
    target: Annotated[Float, FROM_DATA] = 0.0
    """End the polish when errors are below this part of the ranges."""
    patience: Annotated[Integer, FROM_DATA] = 0
    """Stop after this many epochs without a loss that is lower by a thousandth. 0 never stops."""


@dataclass(frozen=True, kw_only=True)
class StartOptions(Given):
    """The weights that training begins with."""

    seed: Integer = 0
    """Seed of all random numbers."""
    collocation: Annotated[Integer, FROM_DATA] = 0
    """Iterations on the slopes of smoothed observations before the first solve."""
    warm_start: Annotated[Integer, FROM_DATA] = 1500
    """Iterations on linearised trajectories before the first solve."""
    neighbours: Annotated[Integer, FROM_DATA] = 5
    """Observations that smooth one for the slopes; more for more noise."""
    compare_starts: Annotated[bool, SWITCH, FROM_DATA] = False
    """Try collocation and linearised trajectories, each alone, and keep the start whose first solve
    has the lower loss. Otherwise the second follows the first."""
    candidates: Annotated[Integer, FROM_DATA] = 4
    """Random starts. The warm start chooses one."""


@dataclass(frozen=True, kw_only=True)
class EndOptions(Given):
    """The end of training, and what is kept on the way."""

    time_limit: Annotated[float, Parameter(metavar="S")] = math.inf
    """Stop after this many seconds, summed over all sessions and attempts. With a polish, at most
    half of them are for the epochs before it. Such a run is not repeatable to the last bit."""
    checkpoint_every: Annotated[float, Parameter(metavar="S")] = 30.0
    """Seconds between checkpoints."""
    keep_every: Integer = 0
    """Keep a model after every N epochs, in OUT/epochs. 0 keeps none."""
    max_failures: Integer = 8
    """Stop after this many failed solves in a row."""
