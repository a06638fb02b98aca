"""What training does to the stiffness of a field: a diagnosis of each of its states, before, between and after."""

from __future__ import annotations

from dataclasses import dataclass

from ..diagnosis import Diagnosis, diagnose
from .tables import Drawn


@dataclass(frozen=True)
class Epochs(Drawn):
    """Diagnoses by label ('epoch 10', or the name of a model), in order. str() is a table."""

    diagnoses: dict[str, Diagnosis]

    @property
    def cells(self) -> list:
        told = [
            (label, f"{d.spectrum.ratio():.1e}", f"{d.costs.stability:,.0f}", f"{d.costs.accuracy:,.0f}", d.walk.evaluations,
             ", ".join(sorted(d.labels)) or "no difficulties")
            for label, d in self.diagnoses.items()
        ]
        return [("field", "stiffness ratio", "steps for stability", "steps for accuracy", "evals implicit", "found"), *told]

    @property
    def note(self) -> str:
        return "Steps for stability: what Tsit5 needs, by the eigenvalues along the solution; for accuracy: what the walk took."

    def figure(self):
        """Steps for stability and for accuracy over the labels, a matplotlib Figure."""
        from .pictures import course

        series = {
            "steps for stability (explicit)": [max(d.costs.stability, 1.0) for d in self.diagnoses.values()],
            "steps for accuracy": [max(d.costs.accuracy, 1.0) for d in self.diagnoses.values()],
        }
        return course(list(self.diagnoses), series, "stiffness, field by field")


def stiffness_over(problems: dict) -> Epochs:
    """Diagnose several Problems, {label: Problem}, for instance one field after different epochs of its training."""
    return Epochs({label: diagnose(problem, trials=False) for label, problem in problems.items()})
