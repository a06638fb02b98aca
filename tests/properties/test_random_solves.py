"""Random solves of problems whose solutions are known: methods, tolerances, options, engines.

None is wrong by more than 100 tolerances times the condition of its problem, none fails that SciPy
can do, none ends in an exception that is no sentence. PYNODE_RANDOM_CASES=2000 tries that many;
`python -m tests.support.random_solves NUMBER` shows one of them.
"""

import os

import pytest
import torch

from tests.support.random_plans import Built, plan
from tests.support.random_problems import KINDS
from tests.support.random_solves import judged

COUNT = int(os.environ.get("PYNODE_RANDOM_CASES", 60))
PARTS = 4
# The share of the cases that may be refused.
REFUSED = 0.05


@pytest.mark.parametrize("part", range(PARTS))
def test_no_solve_is_wrong_or_fails_without_need(part):
    numbers = range(part, COUNT, PARTS)
    failures, refusals = [], []
    for number in numbers:
        failure, ending = judged(plan(number))
        failures += [failure] * (failure is not None)
        refusals += [f"{number}: {ending}"] * ending.startswith("refused")
    print(f"{len(numbers)} cases, {len(refusals)} refused", *refusals, sep="\n")
    assert not failures, "\n".join(map(str, failures))
    assert len(refusals) <= max(1, REFUSED * len(numbers)), "\n".join(refusals)


@pytest.mark.parametrize("kind", KINDS)
def test_the_solutions_that_are_called_known_are(kind):
    """Their derivatives by a central difference are what rate says."""
    chosen = next(p for p in map(plan, range(1000)) if p.kind == kind)
    problem = Built(chosen).problems[0]
    data = [torch.tensor(x) for x in problem.data]
    eps = 1e-6 / problem.fastest
    for share in (0.0, 0.111, 0.9):
        s = torch.tensor([share * problem.length + eps], dtype=torch.float64)
        before, at, after = (
            torch.tensor(problem.exact((s + d).numpy())[0]) for d in (-eps, 0, eps)
        )
        rate, error = problem.rate(s[0], at, *data), 1e-4 * problem.fastest * (1 + at.abs().max())
        torch.testing.assert_close((after - before) / (2 * eps), rate, rtol=1e-4, atol=float(error))
    assert problem.exact(s.numpy() * 0)[0] == pytest.approx(problem.u0, abs=1e-12)


def spoilt(monkeypatch, **others):
    """Solves with other arguments than those of the plan."""
    call = Built.call
    monkeypatch.setattr(Built, "call", lambda self: {**call(self), **others})


def test_a_fault_is_found(monkeypatch):
    chosen = next(
        p for p in map(plan, range(1000)) if p.kind == "swinging" and p.rtol < 1e-6 and not p.rows
    )
    assert judged(chosen) == (None, "solved")
    f = Built(chosen).field()
    for others, kind in (
        ({"f": lambda t, y, *data: 1.01 * f(t, y, *data)}, "wrong"),
        ({"max_nfe": 3}, "unsolved"),
        ({"f": lambda t, y, *data: y[[100]]}, "error"),
    ):
        with monkeypatch.context() as patch:
            spoilt(patch, **others)
            failure, _ = judged(chosen)
            assert failure.kind == kind
