"""Adam on all weights as one vector.

D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015, algorithm 1, and with
decoupled weight decay I. Loshchilov, F. Hutter, ICLR 2019, algorithm 2. The arithmetic is that of
torch.optim.Adam and AdamW, which carry out a dozen operations for each tensor of weights. A small
network has a dozen tensors of few numbers, and the operations would take longer than its solve.
torch.optim also imports torch's compiler, which takes longer than a hundred solves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """Steps of Adam.

    weights: the tensors that it changes, in place. rate: of the next step. decay: weight_decay of
    torch.optim. decoupled: whether the decay acts on the weights (AdamW) instead of on the
    gradient.
    """

    def __init__(
        self,
        weights: Iterable[torch.Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        self.weights = list(weights)
        self.rate = lr
        self.decay = weight_decay
        self.decoupled = decoupled
        self._vector = self._joined([w.detach() for w in self.weights]).clone()
        self._mean = torch.zeros_like(self._vector)
        self._square = torch.zeros_like(self._vector)
        self._parts = self._apart(self._vector)
        self._steps = 0

    def _joined(self, tensors):
        return torch.cat([x.reshape(-1) for x in tensors])

    def _apart(self, vector):
        """Views of the parts of a vector, in the shapes of the weights."""
        parts = vector.split([w.numel() for w in self.weights])
        return [part.view(w.shape) for part, w in zip(parts, self.weights, strict=True)]

    def zero_grad(self) -> None:
        """Forget the gradients of the weights."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self, gradient: torch.Tensor | None = None) -> None:
        """Move the weights. gradient: of all weights as one vector; by default their ``grad``."""
        weights = [w.detach() for w in self.weights]
        if gradient is None:
            grads = [
                torch.zeros_like(w) if w.grad is None else w.grad.detach() for w in self.weights
            ]
            gradient = self._joined(grads)
        # They may have changed since the last step.
        torch._foreach_copy_(self._parts, weights)
        if self.decay and self.decoupled:
            self._vector.mul_(1 - self.rate * self.decay)
        elif self.decay:
            gradient = gradient.add(self._vector, alpha=self.decay)
        first, second = BETAS
        self._steps += 1
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (1 - second**self._steps) ** 0.5
        size = self._square.sqrt().div_(scale).add_(EPSILON)
        self._vector.addcdiv_(self._mean, size, value=-self.rate / (1 - first**self._steps))
        torch._foreach_copy_(weights, self._parts)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state for a checkpoint, in the form of torch.optim."""
        step = torch.tensor(float(self._steps))
        means = self._apart(self._mean.clone())
        squares = self._apart(self._square.clone())
        pairs = enumerate(zip(means, squares, strict=True))
        state = {}
        if self._steps:
            state = {i: {"step": step, "exp_avg": m, "exp_avg_sq": s} for i, (m, s) in pairs}
        group = {"lr": self.rate, "weight_decay": self.decay, "params": list(range(len(means)))}
        return {"state": state, "param_groups": [group]}

    def load_state_dict(self, plain: dict[str, Any]) -> None:
        """Restore the state of ``state_dict``, or of torch.optim's Adam."""
        self.rate = plain["param_groups"][0]["lr"]
        state = plain["state"]
        self._steps = 0
        self._mean.zero_()
        self._square.zero_()
        if state:
            places = range(len(self.weights))
            self._steps = int(state[0]["step"])
            self._mean.copy_(self._joined([state[i]["exp_avg"] for i in places]))
            self._square.copy_(self._joined([state[i]["exp_avg_sq"] for i in places]))
