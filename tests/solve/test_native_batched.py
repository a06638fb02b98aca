"""batched=True with backend='native': each row is a native solve of its own."""

import pytest
import torch
from torch import nn

from pynode import PresetTimes, solve
from tests.support.cases import leaf, tensor


class Oscillators(nn.Module):
    """Van der Pol's oscillators, of a stiffness mu for each row, with a common gain."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(tensor(1.1))

    def forward(self, t, y, mu):
        a, b = y[..., 0], y[..., 1]
        return torch.stack((b, mu * self.gain * (1 - a * a) * b - a + 0.1 * torch.sin(t[:, 0])), -1)


def starts(count=6):
    return tensor(2.0, 0.0).repeat(count, 1) + 0.1 * torch.arange(count).unsqueeze(1)


def stiffness(count=6):
    return torch.logspace(0, 2, count, dtype=torch.float64)


def found(backend, method, t=(0.0, 1.0, 3.0), threads=1, **options):
    """(y, gradients in the starts, in mu and in the gain)."""
    field = Oscillators()
    y0 = leaf(starts())
    mu = leaf(stiffness())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        solution = solve(
            field,
            y0,
            t,
            batched=True,
            method=method,
            args=(mu,),
            backend=backend,
            rtol=1e-7,
            atol=1e-9,
            **options,
        )
        assert solution.backend == backend
        loss = solution.y[1:].square().sum()
        return solution, torch.autograd.grad(loss, [y0, mu, field.gain])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF", "FBDF", "Kvaerno5"])
def test_rows_beside_torch(method):
    """The two engines may decide otherwise where rounding tips a decision."""
    theirs, grads = found("torch", method)
    mine, native_grads = found("native", method)
    torch.testing.assert_close(mine.y, theirs.y, rtol=1e-4, atol=1e-5)
    for a, b in zip(native_grads, grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def test_rows_are_single_solves():
    """A row is what a solve of it alone gives, and so is its gradient."""
    solution, grads = found("native", "rodas5p")
    field = Oscillators()
    gain = 0.0
    for i, (start, mu) in enumerate(zip(starts(), stiffness(), strict=True)):
        y0 = leaf(start)
        own = leaf(mu.reshape(1))

        def alone(t, y, mu):
            return field(t.reshape(1, 1), y.unsqueeze(0), mu).squeeze(0)

        one = solve(
            alone,
            y0,
            (0.0, 1.0, 3.0),
            method="rodas5p",
            args=(own,),
            backend="native",
            rtol=1e-7,
            atol=1e-9,
        )
        torch.testing.assert_close(solution.y[:, i], one.y, rtol=1e-10, atol=1e-12)
        parts = torch.autograd.grad(one.y[1:].square().sum(), [y0, own, field.gain])
        torch.testing.assert_close(grads[0][i], parts[0], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(grads[1][i], parts[1][0], rtol=1e-9, atol=1e-10)
        gain = gain + parts[2]
    torch.testing.assert_close(grads[2], gain, rtol=1e-9, atol=1e-10)


def test_the_number_of_threads_changes_no_bit():
    one, grads = found("native", "qndf")
    for threads in (2, 5):
        other, other_grads = found("native", "qndf", threads=threads)
        assert torch.equal(one.y, other.y)
        assert all(map(torch.equal, grads, other_grads))


def test_times_of_each_row_and_limits():
    """Rows with times of their own, one of which runs out of steps."""
    t = torch.stack([torch.tensor([0.0, 1.0, 2.0 + 20 * (i == 5)]) for i in range(6)], 1)
    t = t.double()
    options = {"batched": True, "args": (stiffness(),), "method": "tsit5", "max_steps": 500}
    solution = solve(Oscillators(), starts(), t, throw=False, backend="native", **options)
    expected = solve(Oscillators(), starts(), t, throw=False, **options)
    assert [s.name for s in solution.statuses] == [s.name for s in expected.statuses]
    assert solution.statuses[5].name == "MAX_STEPS"
    torch.testing.assert_close(
        solution.y[:, :5], expected.y[:, :5], rtol=1e-5, atol=1e-7, equal_nan=True
    )
    assert torch.isnan(solution.y[2, 5]).all()
    assert "limit on the number of steps" in str(solution.report())


def test_doses_and_jumps_of_rows():
    """PresetTimes and jumps divide each row; the gradient passes through them."""

    def f(t, y, k):
        return -k.unsqueeze(1) * y

    grads = []
    for backend in ("torch", "native"):
        k = leaf(tensor(0.5, 1.0, 2.0))
        solution = solve(
            f,
            torch.ones(3, 1, dtype=torch.float64),
            (0.0, 1.0, 2.0),
            batched=True,
            method="rodas5p",
            args=(k,),
            events=PresetTimes([0.7], lambda t, y, k: y + 1.0),
            jumps=[1.5],
            backend=backend,
        )
        grads.append(torch.autograd.grad(solution.y[-1].sum(), k)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-7, atol=1e-10)


def test_nonnegative_rows():
    y = solve(
        lambda t, y: -torch.sqrt(y),
        tensor(1.0, 4.0).unsqueeze(1),
        (0.0, 1.0, 3.0),
        batched=True,
        method="rodas5p",
        nonnegative=True,
        backend="native",
    ).y
    assert bool((y >= 0).all())
    assert float(y[1, 0]) == pytest.approx(0.25, rel=1e-4)


def test_dense_output_of_rows_is_refused():
    with pytest.raises(ValueError, match="dense"):
        solve(
            Oscillators(),
            starts(),
            (0.0, 1.0),
            batched=True,
            args=(stiffness(),),
            backend="native",
            method="rodas5p",
            dense=True,
        )
