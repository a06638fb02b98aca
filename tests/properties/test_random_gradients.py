"""Gradients of random solves reach every leaf of random fields, wherever they keep it, and are
right.

PYNODE_RANDOM_CASES=1000 tries that many cases.
`python -m tests.support.random_gradients FAMILY NUMBER` shows one of them.
"""

import os

import pytest
import torch

from pynode import SolveError, solve
from tests.support.random_cases import FAMILIES, Plan, plan
from tests.support.random_gradients import judged, misused, refused

COUNT = -(-int(os.environ.get("PYNODE_RANDOM_CASES", 60)) // len(FAMILIES))
CHANGES = -(-COUNT // 2)
# The share of the cases that may be refused.
REFUSED = 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_no_gradient_is_missing_or_wrong(family):
    failures, refusals = [], []
    for seed in range(COUNT):
        found, refusal = judged(plan(family, seed), differences=seed % 3 == 0)
        failures += found
        refusals += [f"{family} {seed}: {refusal}"] * (refusal is not None)
    print(f"{family}: {COUNT} cases, {len(refusals)} refused", *refusals, sep="\n")
    assert not failures, "\n".join(map(str, failures))
    assert len(refusals) <= max(1, REFUSED * COUNT), "\n".join(refusals)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_after_the_solve_is_refused_or_does_not_matter(family):
    failures, count = [], 0
    for seed in range(CHANGES):
        failure, _, refusal = misused(plan(family, 10_000 + seed))
        failures += [failure] * (failure is not None)
        count += refusal
    print(f"{family}: {CHANGES} changes, {count} refused")
    assert not failures, "\n".join(map(str, failures))
    assert count


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "Kvaerno5", "RadauIIA5", "FBDF"])
@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("late", "used only late"),
        ("arg_late", "dict in args, used only late"),
        ("middle", "used only in the middle"),
        ("switched_modules", "second module: weight"),
    ],
)
def test_what_f_uses_at_some_times_must_not_change(method, term, name):
    """f at the start, or at both ends, is what it was, so that only the tensor itself tells."""
    failure, _, refusal = misused(Plan(1, "explicit", (term,), method=method, rtol=1e-3), name)
    assert failure is None and refusal, failure


@pytest.mark.parametrize("method", ["Euler", "Tsit5", "Kvaerno3", "Rodas5P", "RadauIIA5", "FBDF"])
def test_dropout_is_refused_or_right(method):
    """Its masks are others at every call, and the same from the same seed."""
    options = (
        {"step_size": 0.25} if method == "Euler" else {"rtol": 0.1, "atol": 0.1, "max_steps": 100}
    )

    def gradient(adjoint):
        torch.manual_seed(0)
        parts = torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
        net = torch.nn.Sequential(*parts).double()
        start = torch.ones(3, dtype=torch.float64)
        y = solve(
            lambda t, y: 0.1 * net(y), start, [0.0, 1.0], method=method, adjoint=adjoint, **options
        ).y[-1]
        return torch.autograd.grad(y.sum(), net[0].weight)[0]

    try:
        found = gradient("discrete")
    except (RuntimeError, ValueError) as error:
        assert refused(error) or isinstance(error, SolveError), error
        return
    torch.testing.assert_close(found, gradient("direct"), rtol=1e-9, atol=1e-12)
