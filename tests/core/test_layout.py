"""Nested states and the flat vector they lie in."""

import pytest
import torch

from pynode.core.layout import Layout, joined
from tests.support.cases import tensor

STATE = {
    "rest": (tensor(1.0, 2.0), tensor(3.0)[0]),
    "mass": 10 + torch.arange(6, dtype=torch.float64).reshape(2, 3),
}


def test_the_name_of_a_component_leads_to_it():
    layout = Layout(STATE)
    flat = layout.ravel(STATE)
    assert layout.size == 9 and flat.unique().numel() == 9
    for i, value in enumerate(flat):
        assert eval(layout.component(i), {"y": STATE}) == value
    with pytest.raises(IndexError, match="no such component"):
        layout.component(9)
    assert Layout(tensor(1.0)[0]).component(0) == "y"


def test_dicts_are_the_same_in_any_order():
    layout, flat = Layout(STATE), Layout(STATE).ravel(STATE)
    turned = dict(reversed(STATE.items()))
    assert (
        list(turned) != list(STATE)
        and torch.equal(layout.ravel(turned), flat)
        and Layout(turned).key == layout.key
    )
    back = layout.unravel(torch.stack((flat, 2 * flat)))
    assert torch.equal(back["mass"][1], 2 * STATE["mass"]) and torch.equal(
        back["rest"][1], tensor(3.0, 6.0)
    )
    rows = layout.ravel_rows({"mass": back["mass"], "rest": back["rest"]}, 2)
    assert torch.equal(rows, torch.stack((flat, 2 * flat)))


def test_leaves_have_the_order_of_the_flat_vector():
    """Also in a dict whose keys come in another order, such as one that a reset returns."""
    state = {"b": torch.tensor([1.0]), "a": (torch.tensor([[2.0], [3.0]]), torch.tensor([4.0]))}
    flat = Layout(state).ravel(state)
    assert torch.equal(joined(state, 0), flat)
    assert flat.tolist() == [2.0, 3.0, 4.0, 1.0]
