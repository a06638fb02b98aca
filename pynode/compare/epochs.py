"""What training does to the stiffness of a field: a diagnosis of the field before, during and after
training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..diagnosis import Diagnosis, diagnose
from ..problems import Problem
from .tables import PlottableTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Epochs(PlottableTable):
    """Diagnoses by label ('epoch 10', or the name of a model), in order. str() is a table."""

    diagnoses: dict[str, Diagnosis]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table as plain data, one dict for each field."""
        return [
            {
                "field": label,
                "stiffness_ratio": d.spectrum.ratio(),
                "steps_for_stability": d.costs.stability,
                "steps_for_accuracy": d.costs.accuracy,
                "evaluations_implicit": d.reference.evaluations,
                "found": sorted(d.labels),
            }
            for label, d in self.diagnoses.items()
        ]

    @property
    def cells(self) -> list[tuple[Any, ...]]:
        rows = [
            (
                row["field"],
                f"{row['stiffness_ratio']:.1e}",
                f"{row['steps_for_stability']:,.0f}",
                f"{row['steps_for_accuracy']:,.0f}",
                row["evaluations_implicit"],
                ", ".join(row["found"]) or "no difficulties",
            )
            for row in self.rows
        ]
        return [
            (
                "field",
                "stiffness ratio",
                "steps for stability",
                "steps for accuracy",
                "evals implicit",
                "found",
            ),
            *rows,
        ]

    @property
    def note(self) -> str:
        return (
            "Steps for stability: what Tsit5 needs, by the eigenvalues along the solution. Steps"
            " for accuracy: those of the reference solve."
        )

    def figure(self) -> Figure:
        """Steps for stability and for accuracy over the labels, a matplotlib Figure."""
        from .pictures import lines

        series = {
            "steps for stability (explicit)": [
                max(row["steps_for_stability"], 1.0) for row in self.rows
            ],
            "steps for accuracy": [max(row["steps_for_accuracy"], 1.0) for row in self.rows],
        }
        return lines(list(self.diagnoses), series, "stiffness, field by field", "steps")


def stiffness_over(problems: Mapping[str, Problem], backend: str = "auto") -> Epochs:
    """Diagnose several Problems, {label: Problem}, for instance one field after different epochs of
    its training. backend: the engine, see ``diagnose``."""
    return Epochs(
        {
            label: diagnose(problem, trials=False, backend=backend)
            for label, problem in problems.items()
        }
    )
