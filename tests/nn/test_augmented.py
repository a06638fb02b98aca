"""AugmentedODE: zeros appended, and what they make possible."""

import pytest
import torch
from torch import nn

from pynode.nn import AugmentedODE, NeuralODE
from tests.support.cases import tensor


def network(n):
    return nn.Sequential(nn.Linear(n, 16), nn.Tanh(), nn.Linear(16, n)).double()


def test_it_is_a_neural_ode_on_the_augmented_state():
    field, y0 = network(5), torch.randn(4, 2, dtype=torch.float64)
    t = [0.0, 0.5, 1.0]
    augmented = AugmentedODE(field, 3, t, method="tsit5")
    plain = NeuralODE(field, t, method="tsit5")
    start = torch.cat((y0, torch.zeros(4, 3, dtype=torch.float64)), 1)
    assert torch.equal(augmented(y0), plain(start))
    assert torch.equal(augmented(y0, t), plain(start, t)) and augmented(y0, t).shape == (3, 4, 5)
    assert torch.equal(augmented(y0, t)[0], start)
    assert augmented.stats == plain.stats and "augment_dims=3" in repr(augmented)


def test_channels_of_images():
    field = nn.Conv2d(5, 5, 3, padding=1).double()
    image = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    out = AugmentedODE(field, 2, dim=1, last_only=False, method="tsit5", rtol=1e-3, atol=1e-3)(
        image
    )
    assert out.shape == (2, 2, 5, 6, 6)
    assert torch.equal(out[0, :, :3], image) and not out[0, :, 3:].any() and out[-1, :, 3:].any()


def learn(model, x, target, steps):
    """The mean squared error of the first component, after Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x)[:, :1], target)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float(nn.functional.mse_loss(model(x)[:, :1], target))


def test_it_learns_what_a_neural_ode_cannot():
    """-1 and 1 exchange places: solutions on a line keep their order, so that a NeuralODE's error
    stays at 1 or above (both at 0 would be the best); with one more dimension they pass each
    other."""
    x = tensor(-1.0, 1.0).unsqueeze(1)
    options = {"method": "tsit5", "rtol": 1e-5, "atol": 1e-6}
    assert learn(AugmentedODE(network(2), 1, **options), x, -x, 60) < 0.02
    assert learn(NeuralODE(network(1), **options), x, -x, 60) > 0.999


def test_mistakes_are_told():
    for count in (0, -2):
        with pytest.raises(
            ValueError,
            match=rf"augment_dims must be at least 1, not {count}; without .* use NeuralODE",
        ):
            AugmentedODE(network(2), count)
    with pytest.raises(TypeError, match="augment_dims must be an integer, not float"):
        AugmentedODE(network(2), 1.5)
    with pytest.raises(TypeError, match=r"field must be an nn\.Module"):
        AugmentedODE(lambda t, y: -y, 1)
