"""The residual network as Euler's method: the same numbers and gradients, and a NeuralODE that
learns images."""

import pytest
import torch
from torch import nn

from pynode.nn import NeuralODE

EULER = {"method": "euler", "step_size": 1.0}


def block():
    return nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1)
    ).double()


class Blocks(nn.ModuleList):
    """A field that is another block in every unit of time; Euler's method asks for it at the start
    of each."""

    def forward(self, t, y):
        return self[min(int(t), len(self) - 1)](y)


def residual(blocks, x):
    for f in blocks:
        x = x + f(x)
    return x


@pytest.mark.parametrize("tied", [False, True], ids=["own weights", "tied weights"])
def test_a_residual_network_is_eulers_method_with_steps_of_one(tied):
    """To rounding, in the values and in the gradients of the weights and of the images."""
    blocks = Blocks([block()] * 4 if tied else [block() for _ in range(4)])
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    model = NeuralODE(blocks[0] if tied else blocks, (0.0, 4.0), **EULER)
    inputs = [x, *model.parameters()]
    expected = residual(blocks, x)
    found = model(x)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    weight = torch.randn_like(expected)
    grads = [torch.autograd.grad(value, inputs, weight) for value in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)
    assert model.stats.accepted == 4


def test_shorter_steps_lead_to_the_differential_equation():
    """Of order one: twice the blocks with half the step halve the distance to the solution."""
    field, x = block(), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        exact = NeuralODE(field, method="tsit5", rtol=1e-9, atol=1e-10)(x)
        first, second = (
            (NeuralODE(field, method="euler", step_size=1 / n)(x) - exact).norm() for n in (64, 128)
        )
    assert float(first / second) == pytest.approx(2, rel=0.03)


def stripes(n):
    """Images (n, 1, 6, 6) of one stripe with noise, and whether it stands upright: (n,)."""
    upright, where = torch.rand(n) < 0.5, torch.randint(6, (n,))
    lines = nn.functional.one_hot(where, 6).float().unsqueeze(1).expand(n, 6, 6)
    images = torch.where(upright.view(n, 1, 1), lines, lines.transpose(1, 2)) + 0.3 * torch.randn(
        n, 6, 6
    )
    return images.unsqueeze(1), upright.float()


@pytest.mark.parametrize(
    "options", [EULER, {"method": "tsit5", "rtol": 1e-2, "atol": 1e-2}], ids=["euler", "adaptive"]
)
def test_it_learns_images(options):
    torch.manual_seed(0)
    field = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1))
    flow = NeuralODE(field, (0.0, 2.0), **options)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        flow,
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 1),
        nn.Flatten(0),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(50):
        optimizer.zero_grad()
        images, upright = stripes(32)
        nn.functional.binary_cross_entropy_with_logits(model(images), upright).backward()
        optimizer.step()
    images, upright = stripes(500)
    with torch.no_grad():
        right = ((model(images) > 0) == upright.bool()).float().mean()
    assert right > 0.9
