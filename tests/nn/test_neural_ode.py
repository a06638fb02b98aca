"""NeuralODE as a module among modules: in pipelines, with state dicts, moved, copied, trained."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pynode import Event, SolveError, solve
from pynode.nn import KineticEnergy, NeuralODE
from tests.support.cases import FAMILIES, Forced, tensor

every_family = pytest.mark.parametrize("method", FAMILIES)


class Network(nn.Module):
    """An autonomous field for states of any leading shape."""

    def __init__(self, n=2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n, 8), nn.Tanh(), nn.Linear(8, n))

    def forward(self, y):
        return self.net(y)


def test_it_is_solve():
    field, y0, t = Forced(), tensor(1.0, 0.0, -1.0), [0.0, 0.5, 2.0]
    model = NeuralODE(field, t, method="tsit5", rtol=1e-7, atol=1e-8)
    expected = solve(field, y0, t, method="tsit5", rtol=1e-7, atol=1e-8)
    assert torch.equal(model(y0), expected.y[-1])
    assert torch.equal(model(y0, t), expected.y)
    assert model.stats == expected.stats
    assert "method=tsit5" in repr(model) and "rtol=1e-07" in repr(model)


def test_which_times_are_returned():
    field, y0 = Forced(), tensor(1.0, 0.0, -1.0)
    always = NeuralODE(field, [0.0, 0.5, 1.0], last_only=False)
    assert always(y0).shape == (3, 3) and always(y0, [0.0, 2.0]).shape == (2, 3)
    last = NeuralODE(field, [0.0, 0.5, 1.0], last_only=True)
    assert last(y0).shape == (3,) and last(y0, [0.0, 2.0]).shape == (3,)
    assert torch.equal(last(y0), always(y0)[-1])


@pytest.mark.parametrize("batched", [False, True])
def test_states_in_parts(batched):
    """A tuple or a dict goes in, and comes out at the last time, or at all."""

    class Parts(nn.Module):
        def forward(self, t, y):
            return {"x": (-y["x"][0], y["x"][1] * torch.cos(t)), "z": -2 * y["z"]}

    y0 = {"x": (torch.ones(3, 2), 2 * torch.ones(3, 1)), "z": torch.ones(3, 4)}
    model = NeuralODE(Parts(), [0.0, 0.5, 1.0], method="tsit5", batched=batched)
    end, path = model(y0), model(y0, model.t)
    assert [*end] == ["x", "z"] and path["x"][0].shape == (3, 3, 2) and path["z"].shape == (3, 3, 4)
    for found, states, exact in (
        (end["x"][0], path["x"][0], math.exp(-1)),
        (end["x"][1], path["x"][1], 2 * math.exp(math.sin(1))),
        (end["z"], path["z"], math.exp(-2)),
    ):
        torch.testing.assert_close(found, torch.full_like(found, exact), rtol=1e-5, atol=1e-6)
        assert torch.equal(found, states[-1])
    with pytest.raises(TypeError, match="a state that is one tensor, not dict: join its parts"):
        NeuralODE(Parts(), regularisers=KineticEnergy())(y0)


def test_autonomous_fields_take_the_state_alone():
    class Timed(Network):
        def forward(self, t, y):
            return super().forward(y)

    plain, timed = Network(), Timed()
    timed.load_state_dict(plain.state_dict())
    y0 = torch.randn(5, 2)
    assert torch.equal(
        NeuralODE(plain, rtol=1e-3, atol=1e-3)(y0), NeuralODE(timed, rtol=1e-3, atol=1e-3)(y0)
    )


@every_family
def test_in_a_sequential_pipeline(method):
    model = nn.Sequential(
        nn.Linear(3, 2), NeuralODE(Network(), method=method, rtol=1e-3, atol=1e-4), nn.Linear(2, 1)
    )
    out = model(torch.randn(4, 3))
    assert out.shape == (4, 1)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model[:2].parameters())


def test_state_dict_round_trip():
    torch.manual_seed(1)
    trained, fresh = NeuralODE(Network()), NeuralODE(Network())
    assert all(name.startswith("field.") for name in trained.state_dict())
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    y0 = torch.randn(3, 2)
    assert not torch.equal(fresh(y0), trained(y0))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(y0), trained(y0))


def test_casting_leaves_time_exact():
    """.float() and .double() cast the field; the times stay float64, through any number of
    casts."""
    t = torch.tensor([0.1, 0.7, 1e4 + 1e-3], dtype=torch.float64)
    model = NeuralODE(Forced(), t, last_only=False)
    for cast in (
        model.float,
        model.double,
        lambda: model.to(torch.float32),
        lambda: model.to("cpu", torch.float64),
    ):
        assert cast() is model
        assert torch.equal(model.t, t) and model.t.dtype == torch.float64
    single = NeuralODE(Forced(), [0.0, 1.0], rtol=1e-4, atol=1e-5).float()
    assert single(torch.tensor([1.0, 0.0, -1.0])).dtype == torch.float32


@pytest.mark.parametrize(
    "copy_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
@every_family
def test_copies_are_independent(method, copy_of):
    model = NeuralODE(Forced(), method=method)
    y0 = tensor(1.0, 0.0, -1.0)
    before = model(y0)  # a model that has been used must still be copied
    twin = copy_of(model)
    assert torch.equal(twin(y0), before)
    with torch.no_grad():
        twin.field.rate.mul_(2)
    assert not torch.equal(twin(y0), before) and torch.equal(model(y0), before)


@every_family
def test_training_with_a_loader(method):
    """Adam on batches from a DataLoader learns a rotation."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(32, 2, generator=generator)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    data = DataLoader(
        TensorDataset(starts, starts @ turn.T), batch_size=16, shuffle=True, generator=generator
    )
    model = NeuralODE(Network(), method=method, rtol=1e-3, atol=1e-4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    losses = []
    for _ in range(8):
        for y0, target in data:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(y0), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-2:]) < 0.4 * sum(losses[:2])


def test_evaluation_leaves_no_graph():
    model = NeuralODE(Forced())
    with torch.no_grad():
        assert not model(tensor(1.0, 0.0, -1.0)).requires_grad
    for p in model.parameters():
        p.requires_grad_(False)
    assert not model(tensor(1.0, 0.0, -1.0)).requires_grad


def test_mistakes_are_told():
    with pytest.raises(TypeError, match=r"field must be an nn\.Module.*not function"):
        NeuralODE(lambda t, y: -y)
    with pytest.raises(ValueError, match="unknown method 'tsit6'"):
        NeuralODE(Forced(), method="tsit6")(tensor(1.0, 0.0, -1.0))
    with pytest.raises(SolveError, match="raise max_steps"):
        NeuralODE(Forced(), max_steps=1)(tensor(1.0, 0.0, -1.0))


def test_a_solve_that_may_end_early_is_refused():
    """The state that a terminal event, a callback or a failure leaves is not that of the last
    time."""
    y0, stop = tensor(1.0, 0.0, -1.0), Event(lambda t, y: t - 0.5, terminal=True, name="half-way")
    with pytest.raises(
        ValueError, match="throw=False may not reach: remove throw and catch SolveError"
    ):
        NeuralODE(Forced(), throw=False)
    with pytest.raises(
        ValueError,
        match=r"the event 'half-way' is terminal and ends the solve before; call pynode\.solve",
    ):
        NeuralODE(Forced(), events=stop)
    model = NeuralODE(Forced(), callback=lambda t, y, stats: t > 0.5)
    with pytest.raises(
        ValueError, match=r"the callback stopped the solve at .* the callback must return nothing"
    ):
        model(y0)
    model.options.update(callback=None, throw=False)
    with pytest.raises(ValueError, match="throw=False"):
        model(y0)
    passing = NeuralODE(Forced(), events=Event(stop.condition, reset=lambda t, y: 2 * y))
    assert not torch.equal(passing(y0), NeuralODE(Forced())(y0))
