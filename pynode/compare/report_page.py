"""All comparisons of one or several fields on one page: what ``pynode compare --report`` writes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch

from ..problems import Problem
from .defaults import MAX_NFE, METHODS, REFERENCE_RTOLS, RTOLS
from .dependence import solver_dependence
from .epochs import stiffness_over
from .gradients import compare_gradients
from .page import Section, write_page
from .runs import output_times, reference
from .work import Comparison, compare

ADJOINTS = ("discrete", "forward", "gauss", "backsolve")  # one of each kind


def report(
    path: str | PathLike[str],
    problems: Mapping[str, Problem],
    methods: Sequence[str] = METHODS,
    rtols: Sequence[float] = RTOLS,
    max_nfe: int | None = MAX_NFE,
    progress: Callable[[str], None] | None = None,
    made: Mapping[str, Comparison] | None = None,
    reference_rtols: Sequence[float] = REFERENCE_RTOLS,
    backend: str = "auto",
) -> Path:
    """Write the comparisons of the Problems, {label: Problem}, as one HTML file that contains its
    pictures; returns its path.

    Each Problem gets a diagnosis, accuracy against work by method, dependence on the solver, and
    gradients by adjoint. With more than three Problems only the first and the last get them.
    Several Problems also get their stiffness from one to the next.

    progress: progress(what) is called before each part.
    made: {label: Comparison} of accuracy against work that exist already.
    reference_rtols: tolerances of the reference solve; it uses the first that succeeds.
    backend: the engine of accuracy against work and of the reference, see ``compare``. The torch
        engine does the rest.

    Needs matplotlib. Raises SolveError if a problem cannot be solved at all.
    """
    made = made or {}
    say = progress or (lambda what: None)
    say("stiffness")
    stiffness = stiffness_over(problems)
    sections = []
    if len(problems) > 1:
        sections.append(Section.of("Stiffness, from one to the next", stiffness))
    for label, problem in _detailed(problems):
        if len(problems) > 1:
            prefix = f"{label}: "
        else:
            prefix = ""
        diagnosis = stiffness.diagnoses[label]
        figure = diagnosis.figure()
        sections.append(Section(f"{prefix}diagnosis", figure=figure, text=str(diagnosis)))
        with torch.no_grad():
            exact = reference(problem, output_times(problem), reference_rtols, backend)
        say(f"{prefix}accuracy against work")
        work = made.get(label) or compare(
            problem, methods, rtols, max_nfe, exact=exact, backend=backend
        )
        sections.append(Section.of(f"{prefix}accuracy against work", work))
        say(f"{prefix}dependence on the solver")
        sections.append(
            Section.of(f"{prefix}dependence on the solver", solver_dependence(problem, exact=exact))
        )
        say(f"{prefix}gradients by adjoint")
        sections.append(
            Section.of(f"{prefix}gradients by adjoint", compare_gradients(problem, ADJOINTS))
        )
    machine = (
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"
        f" {platform.machine()}"
    )
    return write_page(
        path,
        "pynode compare: " + ", ".join(problems),
        f"{machine}, {torch.get_num_threads()} threads",
        sections,
    )


def _detailed(problems):
    """(label, problem) of those that get their own parts."""
    pairs = list(problems.items())
    if len(pairs) <= 3:
        return pairs
    return [pairs[0], pairs[-1]]
