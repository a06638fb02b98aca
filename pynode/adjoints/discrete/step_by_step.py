"""The discrete adjoint of any method: every accepted step is taken again with a graph, one by one,
and pulled back.

For methods whose recursion has no parallel form here. What a step needs is y and those tensors of
its state through which derivatives flow (``Method.carried``); everything else in the state is
numbers, and the same the second time.
"""

from __future__ import annotations

import torch

from ...core.trajectory import evaluate
from ...methods.adams import AdamsPECE
from ..field_products import added, pull_back
from .stability import AdamsWatch


class Sweep:
    """Goes back over pieces of the steps, the last piece first, with the cotangents of y and of
    what is carried."""

    def __init__(self, field, method, trajectory):
        self.field = field
        self.trajectory = trajectory
        self.ybar = torch.zeros_like(trajectory.y0)
        self.carried = {}
        self.grads = [torch.zeros_like(p) for p in field.parameters]
        if isinstance(method, AdamsPECE):
            self.watch = AdamsWatch(method, len(trajectory.recording.starts))
        else:
            self.watch = None

    def back(self, steps, ends, inside):
        """ends, inside: of the outputs (Outputs.of)."""
        with self.field.stats.of_gradient():
            for k in range(len(steps) - 1, -1, -1):
                if ends[k] is not None:
                    self.ybar = self.ybar + ends[k]
                self._step(steps[k], inside[k])

    def _step(self, step, inside):
        method, state, tol = step.before
        y = _leaf(step.start)
        leaves = _leaves(method, state)
        with torch.enable_grad():
            again = method.step(self.field, step.t, y, step.h, state._replace(**leaves), tol)
            pairs = [(again.y, self.ybar)]
            pairs += [
                (getattr(again.state, name), cotangent) for name, cotangent in self.carried.items()
            ]
            if inside is not None:
                theta, cotangents = inside
                pairs.append((evaluate(method.polynomial(self.field, again), theta), cotangents))
        self.field.stats.backward_steps += 1
        if self.watch is not None:
            self.watch.look(again, state.order)
        self._pull(pairs, y, leaves)

    def finish(self):
        """(cotangent of y0 (n,), cotangents of the parameters)."""
        path = self.trajectory
        recording = self.trajectory.recording
        if self.watch is not None:
            self.watch.finish()
        if self.carried:
            ybar = self.ybar
            carried = self.carried
            with torch.enable_grad(), self.field.stats.of_gradient():
                y0 = _leaf(path.y0)
                f0 = self.field(path.t0, y0)
                first = recording.method.init(self.field, path.t0, y0, f0, path.h0, recording.tol)
                self._pull(
                    [(getattr(first, name), cotangent) for name, cotangent in carried.items()],
                    y0,
                    {},
                )
            self.ybar = ybar + self.ybar
        return self.ybar, self.grads

    def _pull(self, pairs, y, leaves):
        """Cotangents of y and of the leaves, and what the parameters get, for pairs (tensor,
        cotangent)."""
        pairs = [
            (tensor, cotangent)
            for tensor, cotangent in pairs
            if tensor is not None and tensor.requires_grad
        ]
        self.ybar = torch.zeros_like(y)
        self.carried = {}
        if not pairs:
            return
        tensors, cotangents = zip(*pairs)
        (ybar, *carried), found = pull_back(self.field, tensors, (y, *leaves.values()), cotangents)
        self.field.stats.backward_nvjp += 1
        if ybar is not None:
            self.ybar = ybar
        self.carried = {name: value for name, value in zip(leaves, carried) if value is not None}
        self.grads = added(self.grads, found)


def _leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def _leaves(method, state):
    """Leaves of the tensors that a state carries; those that it has not are left out."""
    found = {name: getattr(state, name) for name in method.carried}
    return {name: _leaf(value) for name, value in found.items() if value is not None}
