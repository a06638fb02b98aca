"""What training does to the stiffness of a field: a diagnosis of each of its states, before,
between and after."""

from __future__ import annotations

from dataclasses import dataclass

from ..diagnosis import Diagnosis, diagnose
from .tables import PlottableTable


@dataclass(frozen=True)
class Epochs(PlottableTable):
    """Diagnoses by label ('epoch 10', or the name of a model), in order. str() is a table."""

    diagnoses: dict[str, Diagnosis]

    @property
    def rows(self) -> list:
        """The table as plain data, one dict a field."""
        return [
            {
                "field": label,
                "stiffness_ratio": d.spectrum.ratio(),
                "steps_for_stability": d.costs.stability,
                "steps_for_accuracy": d.costs.accuracy,
                "evaluations_implicit": d.walk.evaluations,
                "found": sorted(d.labels),
            }
            for label, d in self.diagnoses.items()
        ]

    @property
    def cells(self) -> list:
        told = []
        for label, ratio, stability, accuracy, evaluations, found in map(dict.values, self.rows):
            found = ", ".join(found) or "no difficulties"
            told.append(
                (label, f"{ratio:.1e}", f"{stability:,.0f}", f"{accuracy:,.0f}", evaluations, found)
            )
        return [
            (
                "field",
                "stiffness ratio",
                "steps for stability",
                "steps for accuracy",
                "evals implicit",
                "found",
            ),
            *told,
        ]

    @property
    def note(self) -> str:
        return (
            "Steps for stability: what Tsit5 needs, by the eigenvalues along the solution; for"
            " accuracy: what the walk took."
        )

    def figure(self):
        """Steps for stability and for accuracy over the labels, a matplotlib Figure."""
        from .pictures import course

        series = {
            "steps for stability (explicit)": [
                max(row["steps_for_stability"], 1.0) for row in self.rows
            ],
            "steps for accuracy": [max(row["steps_for_accuracy"], 1.0) for row in self.rows],
        }
        return course(list(self.diagnoses), series, "stiffness, field by field")


def stiffness_over(problems: dict) -> Epochs:
    """Diagnose several Problems, {label: Problem}, for instance one field after different epochs of
    its training."""
    return Epochs({label: diagnose(problem, trials=False) for label, problem in problems.items()})
