"""Adam on one vector takes the steps of torch.optim."""

import pytest
import torch

from pynode.train.adam import Adam

OTHERS = {False: torch.optim.Adam, True: torch.optim.AdamW}


def pair():
    """The same weights twice."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(3, 2), (3,), ()]
    values = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return [[torch.nn.Parameter(v.clone()) for v in values] for _ in range(2)]


def descend(optimizers, sets, steps, rate):
    """Steps on the same loss; the rate falls."""
    for k in range(steps):
        for optimizer, weights in zip(optimizers, sets, strict=True):
            set_rate(optimizer, rate / (1 + k))
            optimizer.zero_grad()
            sum(((w - 1) ** 4).sum() for w in weights).backward()
            optimizer.step()


def set_rate(optimizer, rate):
    if isinstance(optimizer, Adam):
        optimizer.rate = rate
    else:
        optimizer.param_groups[0]["lr"] = rate


def same(sets):
    return all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*sets, strict=True))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps(decay, decoupled):
    sets = pair()
    start = sets[0][0].detach().clone()
    mine = Adam(sets[0], lr=0.1, weight_decay=decay, decoupled=decoupled)
    other = OTHERS[decoupled](sets[1], lr=0.1, weight_decay=decay)
    descend((mine, other), sets, 7, 0.1)
    assert same(sets)
    assert not torch.allclose(sets[0][0], start)


def test_a_gradient_as_one_vector():
    sets = pair()
    mine, other = (Adam(weights, lr=0.1) for weights in sets)
    vector = torch.arange(10, dtype=torch.float64) - 4.5
    mine.step(vector)
    for weight, part in zip(sets[1], vector.split([6, 3, 1]), strict=True):
        weight.grad = part.view(weight.shape).clone()
    other.step()
    assert same(sets)


def test_weights_that_were_replaced_between_steps():
    """Training goes back to earlier weights after a failed solve."""
    sets = pair()
    pair_of = (Adam(sets[0], lr=0.1), torch.optim.Adam(sets[1], lr=0.1))
    descend(pair_of, sets, 2, 0.1)
    with torch.no_grad():
        for weights in sets:
            weights[0].fill_(2.0)
    descend(pair_of, sets, 2, 0.1)
    assert same(sets)


@pytest.mark.parametrize("kind", [Adam, torch.optim.Adam])
def test_a_state_continues(kind):
    """That of a checkpoint, also of one that torch.optim wrote."""
    sets = pair()
    before = kind(sets[1], lr=0.1)
    descend((before,), sets[1:], 3, 0.1)
    with torch.no_grad():
        for a, b in zip(*sets, strict=True):
            a.copy_(b)
    after = Adam(sets[0], lr=0.5)
    after.load_state_dict(before.state_dict())
    descend((after, before), sets, 3, 0.05)
    assert same(sets)


def test_a_state_is_a_copy():
    sets = pair()
    optimizer = Adam(sets[0], lr=0.1)
    assert optimizer.state_dict()["state"] == {}
    descend((optimizer,), sets[:1], 1, 0.1)
    state = optimizer.state_dict()
    kept = state["state"][0]["exp_avg"].clone()
    descend((optimizer,), sets[:1], 1, 0.1)
    assert torch.equal(state["state"][0]["exp_avg"], kept)
    fresh = Adam(sets[0], lr=0.1)
    fresh.load_state_dict(Adam(sets[1], lr=0.2).state_dict())
    assert fresh.rate == 0.2
