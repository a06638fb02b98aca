"""A field for compiled steps, and the backend that tests compile by."""

import torch
from torch import nn

# Traced as always, but run as it stands: seconds less a case, and no compiler.
TRACED = "eager"
TIMES = [0.0, 0.4, 1.0]


class Field(nn.Module):
    """Depends on the time, stiff in its second component."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()

    def forward(self, t, y, k=1.0):
        return (
            self.net(y)
            - k * y * torch.tensor([1.0, 50.0], dtype=y.dtype, device=y.device)
            + torch.sin(3 * t)
        )
