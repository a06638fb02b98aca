"""The kernel over rows with states on the strict pretended device, in numba's simulator.

    NUMBA_ENABLE_CUDASIM=1 python -m tests.support.cuda_device

Operands on two devices raise there as on CUDA, and what makes the host wait is counted. It prints a
line of JSON: for each method the differences from the CPU, and the places where the host waits.
"""

import json

import numpy as np
import torch
from torch import nn

from pynode.adjoints.native import cuda as sweep
from pynode.backends.native.cuda import launch
from tests.support import pretended
from tests.support.cases import leaf, tensor
from tests.support.cuda_rows import KERNEL, difference, solved
from tests.support.strict_device import strict


class Driven(nn.Module):
    """A network with a buffer, whose strength each row has for itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(tensor([0.1, 0.2], [0.3, -0.4]))
        self.register_buffer("shift", tensor(0.1, 0.2))

    def forward(self, t, y, strength):
        a = y[:, 0]
        b = y[:, 1]
        still = torch.stack((b, strength * (1 - a * a) * b - a), 1)
        return still + torch.tanh(y @ self.weight) + self.shift * torch.cos(t)


def problem(device):
    """(f, starts, args, times) on a device."""
    f = Driven()
    f.weight = nn.Parameter(f.weight.detach().to(device))
    f.shift = f.shift.to(device)
    start = tensor(2.0, 0.0).repeat(5, 1) + 0.1 * torch.arange(5).unsqueeze(1)
    strength = torch.logspace(0, 1, 5, dtype=torch.float64)
    times = torch.linspace(0.0, 0.5, 4, dtype=torch.float64)
    return f, leaf(start.to(device)), (leaf(strength.to(device)),), times.to(device)


def run_on_copies(kernel, count, tensors):
    """In place of launch: the simulator gets the numbers of the tensors, and gives them back."""
    watchers = list(pretended.watchers)
    pretended.watchers.clear()
    assert all(x.device.type == pretended.NAME for x in tensors)
    arrays = [np.array(x.cpu().numpy()) for x in tensors]
    kernel[launch.SIMULATED](*arrays)
    for x, array in zip(tensors, arrays, strict=True):
        x.copy_(torch.from_numpy(array))
    pretended.watchers.extend(watchers)


def case(method):
    """The differences of states and gradients from the CPU, and the waits of a second solve and of
    its gradient."""
    expected, gradients = solved("native", problem("cpu"), method)
    launch.launch = sweep.launch = run_on_copies
    with strict() as waits:
        on_device = problem(pretended.NAME)
        solved(KERNEL, on_device, method)
        waits.clear()
        actual, mine = solved(KERNEL, on_device, method)
        places = sorted(f"{wait.kind} {wait.operation} {wait.place}" for wait in waits)
        mine = [x.cpu() for x in mine]
        states = actual.y.cpu()
    return {
        "device": str(actual.y.device),
        "states": difference(states, expected.y),
        "gradients": [difference(a, b) for a, b in zip(mine, gradients, strict=True)],
        "waits": places,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    pretended.register()  # before autograd makes its threads
    print(json.dumps({name: case(name) for name in ("tsit5", "rodas5p")}))
