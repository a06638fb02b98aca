"""Conditions of events that become zero at y = 1 and stay zero."""

import torch

CONDITIONS = {
    "relu": lambda t, y, *args: torch.relu(1 - y[..., 0]),
    "maximum": lambda t, y, *args: torch.maximum(1 - y[..., 0], torch.zeros_like(y[..., 0])),
    "clamp": lambda t, y, *args: (y[..., 0] - 1).clamp(max=0),
    "where": lambda t, y, *args: torch.where(
        y[..., 0] < 1, 1 - y[..., 0], torch.zeros_like(y[..., 0])
    ),
    "leaves": lambda t, y, *args: torch.relu(1 - y[..., 0]) - torch.relu(y[..., 0] - 1.001),
    "returns": lambda t, y, *args: torch.relu(1 - y[..., 0]) + torch.relu(y[..., 0] - 1.5),
}


def steady(t, y):
    return torch.ones_like(y)
