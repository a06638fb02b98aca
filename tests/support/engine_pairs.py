"""The same solve by the torch engine and by native code, through the front door."""

import torch

from pynode import solve

TIMES = torch.linspace(0.0, 2.0, 7, dtype=torch.float64)


def both(f, y0, t, **options):
    """(y, its gradients) by torch and by native code: the gradient of a sum with weights in y0 and
    in the parameters of f."""
    results = []
    for backend in ("torch", "native"):
        start = y0.clone().requires_grad_()
        solution = solve(f, start, t, backend=backend, **options)
        assert solution.backend == backend
        weights = torch.linspace(0.5, 1.5, solution.y.numel(), dtype=y0.dtype)
        inputs = [start, *f.parameters()]
        grads = torch.autograd.grad((solution.y.flatten() * weights).sum(), inputs)
        results.append((solution.y.detach(), grads))
    return results
