"""Solves on a strict pretended device against the same on the CPU.

Importing this makes the device. tests/core/test_on_device.py runs each file in a process of its
own, because autograd makes its threads at the first backward pass.
"""

import torch

from tests.support.pretended import register
from tests.support.strict_device import NAME, strict

register()


def same(compute, rtol=1e-6, atol=1e-9):
    """Assert that compute(device), a list of tensors on this device, has the CPU's values on the
    pretended one."""
    expected = compute(torch.device("cpu"))
    with strict():
        results = compute(torch.device(NAME, 0))
        assert [x.device.type for x in results] == [NAME] * len(results)
        found = [x.detach().to("cpu") for x in results]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=rtol, atol=atol)


def leaf(values, device, dtype=torch.float64):
    """A tensor on the device that needs a gradient."""
    return torch.tensor(values, dtype=dtype).to(device).requires_grad_()


def fixed(values, device, dtype=torch.float64):
    """A tensor on the device."""
    return torch.tensor(values, dtype=dtype).to(device)


def with_gradients(result, *leaves):
    """The result and its gradients in all leaves that it depends on."""
    leaves = [leaf for leaf in leaves if leaf.requires_grad]
    grads = torch.autograd.grad(result.square().sum(), leaves, allow_unused=True)
    return [result, *(g for g in grads if g is not None)]
