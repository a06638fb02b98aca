"""Everything about one or several fields on one page: what ``pynode compare --report`` writes."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from ..problems import Problem
from .dependence import solver_dependence
from .epochs import stiffness_over
from .gradients import compare_gradients
from .page import Section, write_page
from .runs import output_times, reference
from .work import MAX_NFE, METHODS, RTOLS, compare

ADJOINTS = ("discrete", "forward", "gauss", "backsolve")  # one of each kind


def report(
    path,
    problems: dict[str, Problem],
    methods=METHODS,
    rtols=RTOLS,
    max_nfe=MAX_NFE,
    progress=None,
    made=None,
) -> Path:
    """Write the comparisons of the Problems, {label: Problem}, as one HTML file with its pictures
    inside; returns its path.

    For each, of more than three for the first and the last: a diagnosis, accuracy against work by
    method, dependence on the solver, gradients by adjoint; of several also the stiffness from one
    to the next. progress(what) is called before each part. made: {label: Comparison} of accuracy
    against work, where it has been made already. Needs matplotlib. SolveError where a problem
    cannot be solved at all.
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
            before = f"{label}: "
        else:
            before = ""
        found = stiffness.diagnoses[label]
        sections.append(Section(f"{before}diagnosis", figure=found.figure(), text=str(found)))
        with torch.no_grad():
            exact = reference(problem, output_times(problem))
        say(f"{before}accuracy against work")
        work = made.get(label) or compare(problem, methods, rtols, max_nfe, exact=exact)
        sections.append(Section.of(f"{before}accuracy against work", work))
        say(f"{before}dependence on the solver")
        sections.append(
            Section.of(f"{before}dependence on the solver", solver_dependence(problem, exact=exact))
        )
        say(f"{before}gradients by adjoint")
        sections.append(
            Section.of(f"{before}gradients by adjoint", compare_gradients(problem, ADJOINTS))
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
    """(label, problem) of those that get parts of their own: not all states of a long training."""
    pairs = list(problems.items())
    if len(pairs) <= 3:
        return pairs
    return [pairs[0], pairs[-1]]
