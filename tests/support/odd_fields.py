"""Fields with something inside that a plain network has not: hooks, checkpoints, functions without
a rule for vmap, branches on values."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Y0 = torch.ones(4, 3).double()
KINDS = ["plain", "checkpoint", "custom", "tensor hook", "module hook", "branch"]


class Identity(torch.autograd.Function):
    """Without a rule for vmap."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


class Field(nn.Module):
    """What a field may do within its graph: kind names it."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.act, self.kind = nn.Linear(3, 3).double(), nn.Tanh(), kind
        self.calls = 0
        if kind == "module hook":
            self.act.register_full_backward_hook(lambda module, given, out: (given[0] * 0.5,))

    def forward(self, t, y):
        self.calls += 1
        if self.kind == "checkpoint":
            z = checkpoint(lambda y: self.act(self.linear(y)), y, use_reentrant=False)
        else:
            z = self.act(self.linear(y))
        if self.kind == "custom":
            z = Identity.apply(z)
        if self.kind == "tensor hook" and z.requires_grad:
            z.register_hook(lambda grad: grad * 0.5)
        if self.kind == "branch" and float(z.sum()) > 1e9:
            z = z * 0
        return z - y
