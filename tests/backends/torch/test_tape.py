"""Explicit methods keep the graphs of their evaluations: f is not evaluated again for the gradient,
as far as memory goes."""

import pytest
import torch

from pynode import DiscreteAdjoint, solve
from pynode.backends.torch.tape import Tape, free_bytes, graph_bytes
from tests.support.cases import Forced, leaf

EXPLICIT = ["Tsit5", "DP5", "BS3", "DP8", "Vern7", "RK4"]
LARGE = 40
T = [0.0, 0.3, 0.31, 1.0]


class Counted(Forced):
    """Forced, with the number of its calls."""

    def __init__(self, n=LARGE):
        super().__init__(n)
        self.calls = 0

    def forward(self, t, y):
        self.calls += 1
        return super().forward(t, y)


def gradient(f, method, adjoint, t=T, **options):
    """(gradients of y0 and the parameters, calls of f on the way back)."""
    y0 = leaf(torch.linspace(-1, 1, LARGE, dtype=torch.float64))
    if method == "RK4":
        options["step_size"] = 0.05
    y = solve(f, y0, t, method=method, rtol=1e-5, atol=1e-7, adjoint=adjoint, **options).y
    f.calls = 0
    return torch.autograd.grad(y.square().sum(), [y0, *f.parameters()]), f.calls


@pytest.mark.parametrize("method", EXPLICIT)
@pytest.mark.parametrize("t", [T, T[::-1]], ids=["forwards", "backwards"])
def test_f_is_not_evaluated_again(method, t):
    """Outputs inside steps included."""
    f = Counted()
    wanted, _ = gradient(f, method, "direct", t)
    found, calls = gradient(f, method, "discrete", t)
    again, more = gradient(f, method, DiscreteAdjoint(keep_graphs=False), t)
    assert calls == 0 and more > 0
    for a, b, c in zip(found, again, wanted, strict=True):
        assert torch.allclose(a, c, rtol=1e-9, atol=1e-12) and torch.allclose(
            b, c, rtol=1e-9, atol=1e-12
        )


def test_what_does_not_fit_is_evaluated_again(monkeypatch):
    """The first steps keep their graphs; the gradient is the same."""
    f = Counted()
    wanted, _ = gradient(f, "Tsit5", DiscreteAdjoint(keep_graphs=False))
    monkeypatch.setattr("pynode.adjoints.discrete.adjoint.free_bytes", lambda device: 20_000)
    found, calls = gradient(f, "Tsit5", "discrete")
    assert calls > 0
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_small_states_and_memory_bounds_keep_no_graphs():
    bounded = DiscreteAdjoint(checkpoints=3), DiscreteAdjoint(max_memory="1MB")
    for n, adjoint in ((3, DiscreteAdjoint()), *((LARGE, adjoint) for adjoint in bounded)):
        y0 = leaf(torch.linspace(-1, 1, n, dtype=torch.float64))
        solution = solve(Counted(n), y0, T, method="Tsit5", adjoint=adjoint)
        assert solution._trajectory.recording.tape is None
    with pytest.raises(TypeError, match="keep_graphs"):
        DiscreteAdjoint(keep_graphs="all")


def test_rejected_steps_leave_no_graphs():
    y0 = leaf(torch.linspace(-1, 1, LARGE, dtype=torch.float64))
    solution = solve(
        Counted(), y0, [0.0, 1.0], method="Tsit5", first_step=1.0, rtol=1e-6, atol=1e-8
    )
    recording = solution._trajectory.recording
    assert solution.stats.rejected > 0 and recording.taped and len(recording.tape._latest) <= 7


def test_events_and_second_derivatives_with_graphs_kept():
    f, y0 = Counted(), leaf(torch.linspace(0.5, 1, LARGE, dtype=torch.float64))
    options = {"method": "Tsit5", "rtol": 1e-6, "atol": 1e-8}
    found = []
    for adjoint in ("discrete", "direct"):
        y = solve(f, y0, [0.0, 1.0], adjoint=adjoint, **options).y[-1].square().sum()
        (first,) = torch.autograd.grad(y, y0, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), f.rate)[0])
    assert torch.allclose(*found, rtol=1e-8)


def test_bytes_of_a_graph():
    x = torch.ones(100, dtype=torch.float64, requires_grad=True)
    w = torch.ones(100, dtype=torch.float64, requires_grad=True)
    assert graph_bytes(torch.tanh(x * w), [w]) == 2 * 800  # x, and what tanh returned
    assert free_bytes(torch.device("cpu")) > 1e6
    assert Tape(0).left == 0
