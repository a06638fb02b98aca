"""Models that are made without memory, on the meta device, and get some afterwards: what they know
is there again."""

import pytest
import torch
from torch import nn

from pynode import problems, solve
from pynode.nn import (
    CNF,
    Arrhenius,
    AugmentedODE,
    ControlledODE,
    HybridField,
    LagrangianField,
    LatentODE,
    NeuralCDE,
    NeuralODE,
    NeuralSDE,
    RateConstants,
    ReactionNetwork,
)

MODELS = {
    "NeuralODE": lambda: NeuralODE(nn.Linear(3, 3), t=(0.0, 0.5, 2.0)),
    "times as a tensor": lambda: NeuralODE(
        nn.Linear(3, 3), t=torch.tensor([0.0, 2.0], device="cpu")
    ),
    "AugmentedODE": lambda: AugmentedODE(nn.Linear(4, 4), 1),
    "CNF": lambda: CNF(nn.Linear(2, 2), 2),
    "LatentODE": lambda: LatentODE(nn.Linear(4, 4), nn.Linear(4, 2), 2, 4),
    "ControlledODE": lambda: ControlledODE(nn.Linear(3, 2)),
    "NeuralCDE": lambda: NeuralCDE(
        nn.Sequential(nn.Linear(2, 4), nn.Unflatten(-1, (2, 2))), nn.Linear(2, 2)
    ),
    "LagrangianField": lambda: LagrangianField(nn.Bilinear(2, 2, 1)),
    "ReactionNetwork": lambda: ReactionNetwork(
        [[-1, 1], [1, -1]], [[1, 0], [0, 1]], RateConstants([2.0, 3.0])
    ),
    "Arrhenius": lambda: ReactionNetwork(
        [[-1, 1], [1, -1]], [[1, 0], [0, 1]], Arrhenius([2.0, 3.0], Ea=10.0)
    ),
    "HybridField": lambda: HybridField(nn.Tanh(), nn.Linear(2, 2)),
    "NeuralSDE": lambda: NeuralSDE(nn.Linear(2, 2), nn.Linear(2, 2), dt=0.1),
    **{name: type(problems.get(name).field) for name in ("hires", "oregonator", "pollution")},
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def constants(module):
    """{name: buffer} of those that no state_dict brings back."""
    known = module.state_dict()
    return {name: buffer.clone() for name, buffer in module.named_buffers() if name not in known}


def agree(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(found[name].dtype == wanted[name].dtype for name in wanted)


@every_model
def test_constants_are_there_after_to_empty(make):
    """Made on the meta device, moved there, or emptied in place, once and again."""
    wanted = constants(make())
    with torch.device("meta"):
        made = make()
    assert {x.device.type for x in (*made.parameters(), *made.buffers())} == {"meta"}
    for module in (made, make().to("meta"), make()):
        for _ in range(2):
            agree(constants(module.to_empty(device="cpu")), wanted)
            module.to("meta")


def test_a_model_from_the_meta_device_solves():
    wanted, x = NeuralODE(nn.Linear(3, 3), t=(0.0, 0.5), rtol=1e-4), torch.ones(3)
    with torch.device("meta"):
        found = NeuralODE(nn.Linear(3, 3), t=(0.0, 0.5), rtol=1e-4)
    with pytest.raises(TypeError, match="to_empty"):
        found(x)
    found.to_empty(device="cpu").load_state_dict(wanted.state_dict())
    assert torch.equal(found(x), wanted(x))


def test_times_stay_float64_on_the_way():
    model = NeuralODE(nn.Linear(3, 3), t=(0.0, 0.1))
    assert model.to("meta").half().to_empty(device="cpu").t.tolist() == [0.0, 0.1]
    assert model.t.dtype == torch.float64


def test_a_state_on_the_meta_device_is_refused():
    with pytest.raises(TypeError, match="meta"):
        solve(lambda t, y: -y, torch.ones(3, device="meta"), [0.0, 1.0])
