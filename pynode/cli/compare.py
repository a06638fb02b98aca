"""The command ``pynode compare``."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

import torch

from ..compare import compare, report, stiffness_over
from ..problems import Problem
from .call import Call
from .commands.compare import Compare
from .output import NO_PLOTS, files_written, print_json
from .targets import target


def run(command: Compare, call: Call) -> int:
    """Compare, print and draw; returns the exit code. Raises OSError for a report that cannot be
    drawn."""
    torch.set_num_threads(command.threads.threads)
    if command.report:
        _require_pictures()
    chosen = _labelled(command.targets)
    out = command.out
    out.mkdir(parents=True, exist_ok=True)
    if command.stiffness:
        plain, written = _stiffness(chosen, command, out)
    else:
        plain, written = _methods(chosen, command, out)
    if command.json:
        print_json(plain)
    if not any(path.suffix == ".png" for path in written):
        command.talk.say(NO_PLOTS)
    if written:
        command.talk.say(files_written(written))
    return 0


def _require_pictures() -> None:
    """Raise OSError if a package that draws and writes the report is missing."""
    for package in ("matplotlib", "jinja2"):
        if importlib.util.find_spec(package) is None:
            raise OSError(
                f"--report needs {package}, which is not installed: pip install"
                " 'torch-stiff-ode[plot]'"
            )


def _stiffness(chosen, command, out) -> tuple:
    """(rows as plain data, paths written)."""
    report = stiffness_over(chosen, command.backend)
    if not command.json:
        print(report)
    return report.rows, _drawn(report, out / "stiffness.png")


def _methods(chosen, command, out) -> tuple:
    """(rows as plain data by target, paths written)."""
    say = command.talk.say

    def on_row(row) -> None:
        say(f"{row.method} at rtol {row.rtol:g}: {row.nfe} evaluations, {row.seconds:.2f} s")

    limit = command.max_nfe or None
    made = {}
    written: list[Path] = []
    for label, problem in chosen.items():
        made[label] = compare(
            problem,
            command.methods,
            command.rtol,
            limit,
            report=on_row,
            reference_rtols=command.reference_rtol,
            backend=command.backend,
        )
        if not command.json:
            print(made[label])
        written.append(made[label].to_csv(out / f"compare-{label}.csv"))
        written += _drawn(made[label], out / f"compare-{label}.png")
    if command.report:
        written.append(
            report(
                out / "compare.html",
                chosen,
                command.methods,
                command.rtol,
                limit,
                say,
                made,
                command.reference_rtol,
                command.backend,
            )
        )
    return {label: [asdict(row) for row in result.rows] for label, result in made.items()}, written


def _drawn(result, path) -> list:
    """[path of the picture], or [] without matplotlib."""
    try:
        return [result.plot(path)]
    except ImportError:
        return []


def _labelled(targets) -> dict:
    """{label: Problem}. A label is the problem's name. Models with the same file name get the names
    of their folders too, and a number where this does not tell them apart."""
    made = [target(name) for name in targets]
    labels = [problem.name for problem in made]
    problems: dict[str, Problem] = {}
    for name, problem in zip(targets, made, strict=True):
        label = problem.name
        if labels.count(label) > 1:
            label = _with_folder(name, label)
        k = 2
        while label in problems:
            label = f"{problem.name}-{k}"
            k = k + 1
        problems[label] = problem
    return problems


def _with_folder(name, label) -> str:
    """The label of a model in a file, after the name of its folder."""
    folder = Path(name).resolve().parent.name
    if Path(name).is_file() and folder:
        return f"{folder}-{label}"
    return label
