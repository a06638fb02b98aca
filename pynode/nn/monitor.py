"""What the solves of a model cost, by epoch. Rising counts show that the field becomes hard to
solve."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..core.csv_records import write_csv
from ..core.drawing.figures import entry, figure_with_panels, finish, legend_below, whole_numbers
from ..core.drawing.palette import GREY, look
from ..core.files import save_figure
from ..core.stats import Stats
from .base import SolveModule

if TYPE_CHECKING:
    from rich.console import Console

COUNTS = ("nfe", "backward_nfe", "backward_nvjp", "accepted", "rejected")


@dataclass(frozen=True)
class Cost:
    """The solves of one module in one epoch, and the sums of their counts (``core.stats.Stats``).
    module: its name."""

    epoch: int
    module: str
    solves: int
    nfe: int
    backward_nfe: int
    backward_nvjp: int
    accepted: int
    rejected: int

    @property
    def nfe_per_solve(self) -> float:
        return self.nfe / self.solves


class EvaluationMonitor:
    """Collects the counts of every solve of the continuous-depth modules in a model.

        monitor = EvaluationMonitor(model)
        for epoch in range(epochs):
            train(...)
            monitor.end_epoch()
        monitor.print()                       # a table; monitor.to_csv(path), monitor.plot(path)

    model: an nn.Module that contains at least one NeuralODE, NeuralCDE or the like, otherwise
        ValueError.

    ``costs`` holds a Cost for each module and epoch in which it was solved. ``with
    EvaluationMonitor(model) as monitor`` stops listening at its end.
    """

    def __init__(self, model: nn.Module) -> None:
        named = model.named_modules()
        flows = {
            name or type(module).__name__: module
            for name, module in named
            if isinstance(module, SolveModule)
        }
        if not flows:
            raise ValueError(
                f"this {type(model).__name__} contains no NeuralODE or the like: there is nothing"
                " to count"
            )
        self.costs: list[Cost] = []
        self._flows = flows
        self._seen: dict[str, list[Stats]] = {name: [] for name in flows}
        self._epoch = 0
        self._names = {id(module): name for name, module in flows.items()}
        for module in flows.values():
            module.listen(self._append_stats)

    def _append_stats(self, module, stats):
        # A gradient adds its counts later: end_epoch reads them.
        self._seen[self._names[id(module)]].append(stats)

    def end_epoch(self) -> list[Cost]:
        """End the epoch; returns its costs, one for each module that was solved."""
        costs = [
            Cost(
                self._epoch,
                name,
                len(seen),
                *[sum(getattr(stats, count) for stats in seen) for count in COUNTS],
            )
            for name, seen in self._seen.items()
            if seen
        ]
        self.costs += costs
        self._epoch += 1
        self._seen = {name: [] for name in self._flows}
        return costs

    def close(self) -> None:
        """Stop listening. The collected costs stay."""
        for module in self._flows.values():
            module.listen(self._append_stats, False)

    def __enter__(self) -> EvaluationMonitor:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write one line a Cost, with the names of its fields as header; returns the path."""
        return write_csv(path, Cost, self.costs)

    def print(self, console: Console | None = None) -> None:
        """Print a table of the epochs, evaluations a solve and all sums on a rich console. Raises
        ImportError without rich."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title="Cost of the solves by epoch")
        for name in ("epoch", "module", "solves", "nfe a solve", *COUNTS):
            table.add_column(
                name.replace("_", " "), justify="left" if name == "module" else "right"
            )
        for cost in self.costs:
            sums = [f"{getattr(cost, count):,}" for count in COUNTS]
            table.add_row(
                str(cost.epoch), cost.module, str(cost.solves), f"{cost.nfe_per_solve:.1f}", *sums
            )
        (console or Console()).print(table)

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw evaluations and steps a solve against the epoch, with lines for each module; returns
        the path. Needs matplotlib."""
        figure, (evaluations, steps) = figure_with_panels(2, size=(5.0, 3.6))
        handles = []
        for number, name in enumerate(dict.fromkeys(cost.module for cost in self.costs)):
            costs = [cost for cost in self.costs if cost.module == name]
            own = look(number)
            style: dict[str, Any] = {"color": own.colour, "marker": own.marker, "ms": 4}
            epochs = [cost.epoch for cost in costs]
            evaluations.plot(epochs, [cost.nfe_per_solve for cost in costs], **style)
            steps.plot(epochs, [cost.accepted / cost.solves for cost in costs], **style)
            rejected = [cost.rejected / cost.solves for cost in costs]
            steps.plot(epochs, rejected, ls="--", mfc="white", **style)
            handles.append(entry(name, **style))
        handles.append(entry("accepted steps", color=GREY, marker="o", ms=4))
        handles.append(entry("rejected steps", color=GREY, marker="o", ms=4, ls="--", mfc="white"))
        for axes, label in ((evaluations, "evaluations a solve"), (steps, "steps a solve")):
            axes.set_ylim(bottom=0)
            whole_numbers(axes)
            finish(axes, "epoch", label)
        legend_below(figure, handles)
        return save_figure(path, figure, 120)
