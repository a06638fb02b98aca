"""Random compositions of operations: no native function is silently wrong.

PYNODE_RANDOM_CASES=1000 tries that many.
"""

import os

import pytest
import torch

from pynode.translate import TranslationRefused, translate
from tests.support.native_fields import DOUBLE, NAMES, difference
from tests.support.random_fields import MATRIX, ONE, TWO, RandomField

CASES = int(os.environ.get("PYNODE_RANDOM_CASES", 25))
REFUSED: list[str] = []


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", "off")


@pytest.mark.parametrize("seed", range(CASES))
def test_a_random_field(seed):
    field = RandomField(seed)
    try:
        code = translate(field, field.y0, 0.3)
        for name in NAMES:
            code.function(name)
    except TranslationRefused as refused:
        REFUSED.append(str(refused))
        return
    y = (field.y0 + 0.013).numpy()
    for name in NAMES:
        assert difference(code, field, (), name, 0.41, y) < 1e-9, name


def test_hardly_any_is_refused():
    """Runs after the cases: every operation here is one that native code has."""
    assert len(REFUSED) <= 0.05 * CASES, REFUSED


@pytest.mark.parametrize(
    ("terms", "which"),
    [
        (name, i)
        for name, terms in (("one", ONE), ("two", TWO), ("matrix", MATRIX))
        for i in range(len(terms))
    ],
)
def test_each_term(terms, which):
    """Every operation alone, with its derivatives: none is refused."""
    generator = torch.Generator().manual_seed(which)
    a = torch.randn(4, dtype=DOUBLE, generator=generator)
    matrix = torch.randn(4, 4, dtype=DOUBLE, generator=generator)

    def f(t, y):
        if terms == "one":
            return ONE[which](y * a)
        if terms == "two":
            return TWO[which](y, a * t)
        return MATRIX[which](y, matrix)

    y0 = torch.randn(4, dtype=DOUBLE, generator=generator)
    code = translate(f, y0, 0.7)
    y = (y0 * 1.01).numpy()
    for name in ("f", "jac", "pullback", "second"):
        assert difference(code, f, (), name, 0.8, y) < 1e-9, name
