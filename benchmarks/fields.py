"""The learned-looking vector fields that the benchmarks share."""

import torch
from torch import nn


class MLP(nn.Module):
    """dy/dt = W3 tanh(W2 tanh(W1 y)) with seeded weights, 3-50-50-3 by default. y: (..., 3)."""

    def __init__(self, hidden: int = 50, gain: float = 2.0, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = nn.Sequential(
            nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 3)
        ).to(dtype)
        with torch.no_grad():
            for layer in self.layers[::2]:
                width = layer.in_features ** -0.5
                layer.weight.copy_(gain * width * torch.randn(layer.weight.shape, generator=generator, dtype=dtype))
                layer.bias.copy_(0.3 * torch.randn(layer.bias.shape, generator=generator, dtype=dtype))

    def forward(self, t, y):
        return self.layers(y)


class StiffMLP(MLP):
    """The same with a linear decay of rates 1, 30 and 1000 beside it: a stiff field with the cost of a network."""

    def __init__(self, hidden: int = 50, dtype=torch.float64):
        super().__init__(hidden, 2.0, dtype)
        self.rates = nn.Parameter(torch.tensor([1.0, 30.0, 1000.0], dtype=dtype))

    def forward(self, t, y):
        return self.rates * (self.layers(y) - y)


def start(batch: int = 1, dtype=torch.float64):
    """(3,) start, or (batch, 3) of them."""
    generator = torch.Generator().manual_seed(2)
    y0 = 0.5 * torch.randn(batch, 3, generator=generator, dtype=dtype)
    return y0[0] if batch == 1 else y0
