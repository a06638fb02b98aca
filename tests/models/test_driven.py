"""Models of which constants are inputs."""

import math

import pytest
import torch

from pynode import solve
from pynode.models import Doses, DrivenModel, InputTable

DOUBLE = torch.float64
TIGHT = {"rtol": 1e-10, "atol": 1e-11, "method": "tsit5"}


class Decay(torch.nn.Module):
    """dA/dt = feed - k A, with the names of a ReactionModel."""

    states = ("A",)
    constants = ("k", "feed")

    def forward(self, t, y, p):
        return p[..., 1:2] - p[..., 0:1] * y


P = torch.tensor([0.5, 2.0], dtype=DOUBLE)
START = torch.ones(1, dtype=DOUBLE)


def held(k, switch, length):
    """A after this time, where k is 0 until the switch, and the feed is 0."""
    return math.exp(-k * max(0.0, length - switch))


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_two_constants(engine):
    if engine == "native":
        pytest.importorskip("numba", reason="the native engine needs numba")
    k = InputTable([0.0, 1.0], [0.0, 0.7])
    feed = InputTable([0.0, 1.0, 2.0], [0.0, 0.0, 3.0], "linear")
    driven = DrivenModel(Decay(), {"k": k, "feed": feed})
    options = {**TIGHT, "backend": engine}
    found = solve(driven, START, [0.0, 1.0, 2.0], args=driven.args(P), **options, **driven.stops())
    ramp = 3 / 0.7 - 3 / 0.7**2 * (1 - math.exp(-0.7))
    assert abs(float(found.y[1]) - 1) < 1e-9
    assert abs(float(found.y[2]) - (math.exp(-0.7) + ramp)) < 1e-8


def test_rows_and_doses():
    k = InputTable(
        torch.tensor([[0.0, 1.0], [0.0, 2.0]], dtype=DOUBLE),
        torch.tensor([[0.0, 0.7], [0.0, 0.9]], dtype=DOUBLE),
    )
    driven = DrivenModel(Decay(), {"k": k, "feed": InputTable([0.0], [0.0])})
    found = Doses([0.0], 1.0, target="A").solve(
        driven,
        START.expand(2, 1),
        [0.0, 4.0],
        args=driven.args(P.expand(2, 2)),
        by_row=[True, True, True, False, False],
        batched=True,
        **TIGHT,
        **driven.stops(),
    )
    expected = torch.tensor([[2 * held(0.7, 1.0, 4.0)], [2 * held(0.9, 2.0, 4.0)]], dtype=DOUBLE)
    assert torch.allclose(found.y[-1], expected, atol=1e-8)


def test_gradients_reach_the_values():
    values = torch.tensor([0.2, 0.7], dtype=DOUBLE, requires_grad=True)
    driven = DrivenModel(Decay(), {"k": InputTable([0.0, 1.0], values)})
    p = torch.tensor([9.0, 0.0], dtype=DOUBLE, requires_grad=True)
    y = solve(driven, START, [0.0, 3.0], args=driven.args(p), **TIGHT, **driven.stops()).y[-1]
    by_values, by_p = torch.autograd.grad(y.sum(), [values, p])
    end = math.exp(-0.2 - 1.4)
    assert torch.allclose(by_values, torch.tensor([-end, -2 * end], dtype=DOUBLE), atol=1e-8)
    assert by_p[0] == 0 and by_p[1] > 0


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="no constant 'x'"):
        DrivenModel(Decay(), {"x": InputTable([0.0], [1.0])})
    with pytest.raises(ValueError, match="several channels"):
        DrivenModel(Decay(), {"k": InputTable([0.0], [[1.0, 2.0]])})


def test_a_model_of_a_file():
    pytest.importorskip("antimony", reason="antimony reads the model")
    from pynode.models import antimony

    model = antimony("J0: A -> B; k1*A; A = 5; B = 0; k1 = 9;")
    driven = DrivenModel(model, {"k1": InputTable([0.0, 1.0], [0.0, 0.7])})
    args = driven.args(model.values)
    y = solve(driven, model.initial(), [0.0, 3.0], args=args, **TIGHT, **driven.stops()).y[-1]
    assert abs(float(y[0]) - 5 * held(0.7, 1.0, 3.0)) < 1e-8


def test_a_model_with_events_is_refused():
    pytest.importorskip("antimony", reason="antimony reads the model")
    from pynode.models import Doses, antimony

    model = antimony("A -> ; k*A; A = 1; k = 1; low: at A < 0.5: A = 1;")
    with pytest.raises(ValueError, match="has events \\(low\\)"):
        DrivenModel(model, {"k": InputTable([0.0], [1.0])})
    with pytest.raises(ValueError, match="has events \\(low\\)"):
        Doses([1.0], 1.0).solve(model, model.initial(), [0.0, 2.0], args=(model.values,))
