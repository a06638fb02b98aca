"""Fields on an accelerator and Julia's solves of them, on a real Julia and a pretended accelerator.

Run by tests/backends/julia/test_device.py in a process of its own: autograd makes its threads at
the first backward pass, for the devices that there are by then.
"""

import pytest
import torch

from pynode import Event, JuliaBackend, solve
from tests.support.cases import Forced, leaf, smooth, smooth_exact, tensor
from tests.support.pretended import NAME, pretended

# The CPU answers through the same hooks as the accelerator.
OPTIONS = {"backend": JuliaBackend(hooks="python"), "rtol": 1e-8, "atol": 1e-10}


def together(t, y):
    assert t.device == y.device
    return smooth(t, y)


@pytest.mark.parametrize("method", ["Tsit5", "FBDF", "Rodas5P"])
def test_the_state_is_copied_to_the_field_and_back(method):
    """As on the CPU, but for rounding: outputs, polynomials, events, counts."""
    found, times = [], [0.2, 0.7, 2.0]
    turn = Event(lambda t, y: y[0] - 2.0)
    for device in ("cpu", NAME):
        with pretended(), torch.no_grad():
            y0 = smooth_exact(0.2).to(device)
            solution = solve(together, y0, times, method=method, dense=True, events=turn, **OPTIONS)
            assert solution.y.device.type == device and len(solution.events) == 1
            between = solution(torch.tensor([0.3, 1.1], dtype=torch.float64, device=device))
            found.append(
                (
                    solution.y.to("cpu"),
                    between.to("cpu"),
                    float(solution.events[0].t),
                    solution.stats,
                )
            )
    (y, between, moment, stats), (y2, between2, moment2, stats2) = found
    torch.testing.assert_close(y2, y, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(between2, between, rtol=1e-12, atol=1e-14)
    assert moment2 == pytest.approx(moment, rel=1e-12)
    assert stats2 == stats


class Elementwise(Forced):
    def forward(self, t, y):
        return torch.tanh((self.W * y).sum(1) + self.b * torch.sin(2 * t)) - self.rate * y


def gradients(device, **options):
    f, y0 = Elementwise().to(device), leaf(tensor(1.0, -0.5, 0.3).to(device))
    y = solve(f, y0, [0.0, 0.4, 1.0], adjoint="NativeGauss", **OPTIONS, **options).y
    return lambda: [g.to("cpu") for g in torch.autograd.grad((y * y).sum(), [y0, *f.parameters()])]


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_gradients_of_a_field_on_an_accelerator(method):
    """Autograd computes them in a thread of its own, which may enter Julia too."""
    with pretended():
        expected = gradients("cpu", method=method)()
        found = gradients(NAME, method=method)()
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()
