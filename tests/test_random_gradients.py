"""Gradients of random solves reach every leaf of random fields, wherever they keep it, and are right.

PYNODE_RANDOM_CASES=1000 tries that many cases; `python tests/random_gradients.py FAMILY NUMBER` shows one of them.
"""

import os

import pytest
from random_cases import FAMILIES, plan
from random_gradients import judged

COUNT = -(-int(os.environ.get("PYNODE_RANDOM_CASES", 60)) // len(FAMILIES))
REFUSED = 0.1


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
