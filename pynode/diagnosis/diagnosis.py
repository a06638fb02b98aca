"""The result of ``diagnose``: as text, as plain data, as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.files import save_figure, save_text
from ..core.layout import Layout
from ..failure import FailureReport
from ..failure.report import plain
from .advice import Advice
from .costs import Costs
from .discontinuities import Jump
from .race import Trial
from .reference_solve import ReferenceSolve
from .scales import Scales
from .spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A problem is oscillatory if a mode near the imaginary axis, or the solution, has so many periods.
PERIODS = 10
# It is unstable if differences grow by more e-folds than this over the span.
UNSTABLE = 5.0
BLOW_UP = "blow-up"  # the cause in a failure report


@dataclass(frozen=True)
class Diagnosis:
    """Times in units of t, rates and eigenvalues in units of 1 / t, states in units of y. str() is
    the report.

    name: of the problem. names: (n,) names of its components, None for their indices. layout: of
    the state. rtol, atol: as given; atol 0-d or (n,). end: of the span. reference: the steps of the
    reference solve. spectrum: eigenvalues along it. modes: periods of the modes near the imaginary
    axis. turning: (turning points of the component with most of them, its index). lyapunov_growth:
    e-folds by which differences grow, None if unknown. jumps: the jumps and kinks of f. scales:
    sizes compared with atol. costs: estimates. failure: why the reference solve failed, None if it
    did not. trials: the timed solves, the fastest first. advice: the recommendation.
    """

    name: str
    names: tuple[str, ...] | None
    layout: Layout
    rtol: float
    atol: torch.Tensor
    end: float
    reference: ReferenceSolve
    spectrum: Spectrum
    modes: float
    turning: tuple[int, int | None]
    lyapunov_growth: float | None
    jumps: list[Jump]
    scales: Scales
    costs: Costs
    failure: FailureReport | None = None
    trials: Sequence[Trial] = ()
    advice: Advice | None = None

    @property
    def backend(self) -> str:
        """The engine of the solves: 'torch' or 'native'."""
        return self.reference.engine

    @property
    def turns(self) -> int:
        """The turning points of the component with most of them."""
        return self.turning[0]

    @property
    def labels(self) -> frozenset[str]:
        """Those of 'stiff', 'oscillatory', 'discontinuous', 'badly scaled', 'unstable', 'blows up'
        that hold. Empty for a problem without difficulties."""
        exploded = self.failure is not None and self.failure.cause == BLOW_UP
        conditions = {
            "stiff": self.costs.stiff,
            "oscillatory": max(self.modes, self.turns / 2) >= PERIODS,
            "discontinuous": any(not jump.slope_discontinuity for jump in self.jumps),
            "badly scaled": self.scales.bad,
            "unstable": not exploded
            and self.lyapunov_growth is not None
            and self.lyapunov_growth > UNSTABLE,
            "blows up": exploded,
        }
        return frozenset(name for name, holds in conditions.items() if holds)

    def called(self, index: int) -> str:
        """The name of a flat component: the given one, or its place in the state, 'y[2]'."""
        if self.names is None:
            return self.layout.component(index)
        return self.names[index]

    def __str__(self) -> str:
        from .report import text

        return text(self)

    def figure(self) -> Figure:
        """Eigenvalues, steps, dominating component and solution over time: a matplotlib Figure.
        Needs matplotlib."""
        from .picture import draw

        return draw(self)

    def plot(self, path: str | PathLike[str]) -> Path:
        """Write the figure; returns the path."""
        return save_figure(path, self.figure(), 140)

    def as_dict(self) -> dict[str, Any]:
        """Plain data: numbers, strings, lists. None stands for numbers that are not finite."""
        reference = self.reference
        spectrum = self.spectrum
        turns, component = self.turning
        if component is None:
            turning = None
        else:
            turning = self.called(component)
        return plain(
            {
                "name": self.name,
                "states": self.layout.size,
                "rtol": self.rtol,
                "atol": self.atol.tolist(),
                "backend": self.backend,
                "labels": sorted(self.labels),
                "reference": {
                    "method": reference.method.name,
                    "status": reference.status.name,
                    "message": reference.status.sentence,
                    "t0": reference.times[0],
                    "end": self.end,
                    "reached": reference.reached,
                    "accepted": len(reference.sizes),
                    "rejected": len(reference.rejected),
                    "evaluations": reference.evaluations,
                    "seconds": reference.seconds,
                    "smallest_step": min(reference.sizes, default=math.nan),
                    "largest_step": max(reference.sizes, default=math.nan),
                    "dominating": [
                        {"component": self.called(i), "share": share}
                        for i, share in reference.dominating()[:5]
                    ],
                },
                "spectrum": {
                    "complete": spectrum.complete,
                    "t": spectrum.times,
                    "radius": spectrum.largest().tolist(),
                    "decay": spectrum.decay().tolist(),
                    "slowest_decay": spectrum.slowest().tolist(),
                    "growth": spectrum.growth().tolist(),
                    "frequency": spectrum.frequency().tolist(),
                    "stiffness_ratio": spectrum.ratio(),
                },
                "failure": None if self.failure is None else self.failure.as_dict(),
                "oscillation": {"modes": self.modes, "turns": turns, "component": turning},
                "lyapunov_growth": self.lyapunov_growth,
                "jumps": [
                    asdict(jump) | {"components": [self.called(i) for i in jump.components]}
                    for jump in self.jumps
                ],
                "scales": {
                    "largest": self.scales.largest.tolist(),
                    "below_atol": [self.called(i) for i in self.scales.below_atol],
                    "decades": self.scales.decades(),
                    "proposed_atol": self.scales.proposed.tolist() if self.scales.bad else None,
                },
                "costs": asdict(self.costs) | {"severity": self.costs.severity},
                "trials": [asdict(trial) for trial in self.trials],
                "advice": None
                if self.advice is None
                else asdict(self.advice) | {"call": self.advice.call()},
            }
        )

    def to_json(self, path: str | PathLike[str]) -> Path:
        """Write as_dict() to a file; returns its path."""
        return save_text(path, json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n")
