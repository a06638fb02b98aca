"""Functions that are defined anew for each solve, and those with a size of their own."""

import pytest
import torch

from pynode.translate import TranslationRefused, field_code, translate
from tests.support.native_fields import DOUBLE


def test_a_function_defined_anew_loads_nothing(tmp_path, monkeypatch):
    """A solve in a loop often defines its functions there: they have the same code each time."""
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    y0 = torch.ones(3, dtype=DOUBLE)

    def native():
        return translate(lambda t, y: -0.731 * y**3, y0, 0.0).function("f")

    first = native()
    monkeypatch.setattr(field_code, "Loaded", None)
    assert native().address == first.address


class ThreeNumbers:
    """Calls a function that returns three numbers for a state of two."""

    outputs = 3
    key = ("three numbers",)

    def __call__(self, f, t, y, *args):
        return f(t, y, *args)


def test_a_function_that_returns_other_numbers_than_the_state(tmp_path, monkeypatch):
    """It has its value alone, and what differs from the announced size is refused."""
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    y0 = torch.tensor([1.0, 2.0], dtype=DOUBLE)
    weight = torch.tensor([1.0, -1.0, 0.5], dtype=DOUBLE, requires_grad=True)

    def condition(t, y):
        return torch.sign(y.sum() - t) * weight

    field = translate(condition, y0, 0.0, (), ThreeNumbers())
    assert field.function("f").size == 3
    assert [x is weight for x in field.targets] == [True]
    with pytest.raises(TranslationRefused, match=r"shape \(3,\)"):
        translate(lambda t, y: y, y0, 0.0, (), ThreeNumbers())
