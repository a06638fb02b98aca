"""The result of an estimation: all starts, the optimum, intervals, and what is not determined."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from ..core.files import save_text
from ..core.formatting import counted
from ..core.parameter_info import from_scale
from ..core.text_table import WIDTH, text_table
from .fisher import Freedom, Information, Interval, intervals, percent, rounded, sentences
from .protocol import EstimationProblem, estimated

REACHED = 0.1  # of the objective: starts that end so close to the best one have found it


@dataclass(frozen=True)
class Start:
    """One start. index: its number. begin, theta: (k,) where it began and ended, in the scales of
    the parameters. objective: there, infinite where nothing could be simulated. message: how it
    ended."""

    index: int
    begin: Tensor
    theta: Tensor
    objective: float
    seconds: float
    evaluations: int
    message: str


@dataclass
class Estimate:
    """The result of ``estimate``.

    starts: those that ended, the best one first. interrupted: whether some are missing. profiles:
    by the name of the parameter, after ``profile`` (profiles.py); their intervals then take the
    place of those of the Fisher information.
    """

    problem: EstimationProblem
    starts: Sequence[Start]
    interrupted: bool = False
    profiles: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.starts = sorted(self.starts, key=lambda start: (start.objective, start.index))

    @property
    def theta(self) -> Tensor:
        """The best parameters in their scales, (k,)."""
        return self.starts[0].theta

    @property
    def objective(self) -> float:
        """The objective at the best parameters."""
        return self.starts[0].objective

    @property
    def values(self) -> dict[str, float]:
        """The best parameters in their units, by name."""
        infos = estimated(self.problem)
        pairs = zip(infos, self.theta.tolist(), strict=True)
        return {info.name: from_scale(theta, info.scale) for info, theta in pairs}

    @property
    def reached(self) -> int:
        """How many starts came to within 0.1 of the best objective."""
        return sum(start.objective <= self.objective + REACHED for start in self.starts)

    @property
    def freedom(self) -> Freedom | None:
        """What is known of the noise, if the problem estimates it and says so."""
        return getattr(self.problem, "freedom", None)

    @cached_property
    def information(self) -> Information:
        """The Fisher information at the optimum."""
        matrix = self.problem.gauss_newton(self.theta)[2]
        return Information.of(estimated(self.problem), self.theta, matrix)

    def intervals(self, level: float = 0.95) -> list[Interval]:
        """An interval for each parameter: by its profile where there is one, otherwise from the
        Fisher information."""
        found = intervals(self.information, level, self.freedom)
        made = {name: one.interval(level) for name, one in self.profiles.items()}
        return [made.get(x.name, x) for x in found]

    def sentences(self, level: float = 0.95) -> list[str]:
        """What the data do not determine, in sentences."""
        if not math.isfinite(self.objective):
            return ["No start could be simulated: check the model, its bounds and its tolerances."]
        found = sentences(self.information, level)
        lower = [p for p in self.profiles.values() if p.lowest < self.objective - REACHED]
        if lower:
            found.append(
                f"The profile of {lower[0].name} found the objective {lower[0].lowest:.6g}, below"
                f" {self.objective:.6g}: take more starts."
            )
        return found

    def as_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = {
            "objective": self.objective,
            "parameters": self.values,
            "starts": len(self.starts),
            "reached": self.reached,
            "interrupted": self.interrupted,
        }
        if math.isfinite(self.objective):
            found["intervals"] = {
                x.name: {
                    "lower": x.lower,
                    "upper": x.upper,
                    "lower_open": x.lower_open,
                    "upper_open": x.upper_open,
                    "level": x.level,
                    "method": x.method,
                }
                for x in self.intervals(level)
            }
            found["eigenvalues"] = self.information.values.tolist()
        found["sentences"] = self.sentences(level)
        found["all_starts"] = [
            {
                "index": start.index,
                "objective": start.objective,
                "seconds": start.seconds,
                "evaluations": start.evaluations,
                "theta": start.theta.tolist(),
                "message": start.message,
            }
            for start in self.starts
        ]
        return found

    def save_tables(self, out: str | PathLike[str], level: float = 0.95) -> list[Path]:
        """Write parameters.csv (values, intervals, bounds) and starts.csv to the folder."""
        out = Path(out)
        infos = {info.name: info for info in estimated(self.problem)}
        lines: list[Sequence[Any]] = [
            ("parameter", "value", "lower", "upper", "method", "scale", "bound_low", "bound_high")
        ]
        for x in self.intervals(level):
            info = infos[x.name]
            lines.append(
                (x.name, x.value, x.lower, x.upper, x.method, info.scale, info.lower, info.upper)
            )
        written = [_save(out / "parameters.csv", lines)]
        lines = [("rank", "start", "objective", "seconds", "evaluations", "message", *infos)]
        for rank, start in enumerate(self.starts, 1):
            values = [
                from_scale(x, info.scale)
                for x, info in zip(start.theta.tolist(), infos.values(), strict=True)
            ]
            head = (rank, start.index, start.objective, start.seconds, start.evaluations)
            lines.append((*head, start.message, *values))
        return [*written, _save(out / "starts.csv", lines)]

    def __str__(self) -> str:
        seconds = median(start.seconds for start in self.starts)
        head = (
            f"{counted(len(self.starts), 'start')}, {self.reached} of them within {REACHED:g} of"
            f" the best objective {self.objective:.6g}; {seconds:.2g} s a start (median)."
        )
        if self.interrupted:
            head += " The estimation was interrupted."
        if not math.isfinite(self.objective):
            return "\n".join(_filled([head, *self.sentences()]))
        rows = [("parameter", "value", percent(0.95) + " interval", "from")]
        networks = {info.name: info.network for info in estimated(self.problem) if info.network}
        for x in self.intervals():
            if x.name not in networks:
                value, low, high = rounded(x)
                rows.append((x.name, value, f"{low} to {high}", x.method))
        for network, count in Counter(networks.values()).items():
            rows.append((network, counted(count, "weight"), "", ""))
        table = text_table(rows, left=(0, 1, 2, 3))
        return "\n".join([*_filled([head]), "", *table, "", *_filled(self.sentences())])


def _filled(sentences: Iterable[str]) -> list[str]:
    return [textwrap.fill(sentence, WIDTH, break_long_words=False) for sentence in sentences]


def _save(path, lines):
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(lines)
    return save_text(path, table.getvalue())
