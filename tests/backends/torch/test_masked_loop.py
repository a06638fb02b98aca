"""Passes of rows without the host: the steps, outputs, statuses and gradients of the ordinary
loop. tests/support/on_device/masked.py counts their synchronisations."""

import pytest
import torch

from pynode import Event, Status, TorchBackend, solve
from pynode.backends.torch import late, masked_loop
from pynode.methods import Tsit5
from tests.support import replayed
from tests.support.cases import tensor

PID = Tsit5(controller="PID")
BDF = ["qndf", "fbdf"]
METHODS = ["tsit5", PID, "rodas5p", "rosenbrock23", "bs3", "vern7", "midpoint", *BDF]
ROWS = 12
MASKED = TorchBackend(passes=5)


@pytest.fixture
def buckets(monkeypatch):
    """Small buckets, and a list of the sizes of all buckets of a solve."""
    monkeypatch.setattr(masked_loop, "SMALLEST", 2)
    sizes = []
    begin = masked_loop._Bucket.__init__

    def noted(self, passes, states, *others):
        sizes.append(len(states.t))
        begin(self, passes, states, *others)

    monkeypatch.setattr(masked_loop._Bucket, "__init__", noted)
    return sizes


@pytest.fixture
def graphs(monkeypatch):
    """Blocks become graphs, as on CUDA; the list of all graphs of a solve."""
    made = []

    def capture(stream, function):
        made.append(replayed.captured(function))
        return made[-1]

    monkeypatch.setattr(late.SideStream, "captured", capture)
    return made


def driven(t, y, rate):
    """Stiffer from row to row, with a push in time."""
    x, v = y.unbind(-1)
    push = torch.sin(3 * t[:, 0])
    return torch.stack((v, -rate * v - x * x * x + push), -1)


def problem(dtype=torch.float64, outputs=9):
    """(y0, t, rate): each row has its own start, span and outputs, and some go backwards."""
    rate = torch.linspace(0.1, 6.0, ROWS, dtype=dtype)
    angle = torch.linspace(0.0, 3.0, ROWS, dtype=dtype)
    y0 = torch.stack((angle.cos(), angle.sin()), 1)
    start = torch.linspace(-0.5, 0.5, ROWS, dtype=torch.float64)
    length = torch.linspace(0.2, 6.0, ROWS, dtype=torch.float64)
    length[::5] = -0.3
    t = start + torch.linspace(0, 1, outputs, dtype=torch.float64).unsqueeze(1) ** 2 * length
    return y0, t, rate


def both(f, y0, t, args=(), **options):
    """The same solve by the ordinary loop and by masked passes."""
    options = {"batched": True, "throw": False, "args": args, **options}
    return (
        solve(f, y0, t, backend="torch", **options),
        solve(f, y0, t, backend=MASKED, **options),
    )


def same(ordinary, masked, steps=True):
    """steps: whether rounding cannot change the number of steps. In BDF it can, because rates of
    convergence at the level of rounding decide when a Jacobian is renewed."""
    iterates = ordinary.method.lower() in BDF
    assert list(masked.statuses) == list(ordinary.statuses)
    if steps and iterates:
        assert masked.stats.accepted == pytest.approx(ordinary.stats.accepted, rel=0.02)
    elif steps:
        assert masked.stats.accepted == ordinary.stats.accepted
        assert masked.stats.rejected == ordinary.stats.rejected
    close = {"rtol": 1e-4, "atol": 1e-5} if iterates else {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(masked.y, ordinary.y, equal_nan=True, **close)
    torch.testing.assert_close(tensor(*masked.reached), tensor(*ordinary.reached), **close)


@pytest.mark.parametrize("method", METHODS)
def test_rows_with_their_own_spans_and_outputs(method, buckets):
    y0, t, rate = problem()
    ordinary, masked = both(driven, y0, t, (rate,), method=method, rtol=1e-4, atol=1e-6)
    same(ordinary, masked)
    assert ordinary.success
    assert buckets[0] == ROWS
    assert len(buckets) > 2
    assert all(a > b for a, b in zip(buckets, buckets[1:]))


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "vern7", "qndf", "fbdf"])
def test_graphs(method, buckets, graphs):
    """A block runs again without Python."""
    y0, t, rate = problem()
    same(*both(driven, y0, t, (rate,), method=method))
    assert 1 <= len(graphs) <= len(buckets)
    assert max(len(graph.calls) for graph in graphs) > 1


def test_many_outputs_in_a_step():
    """More than a pass writes: the row waits with its step."""
    y0, t, rate = problem(outputs=150)
    ordinary, masked = both(driven, y0, t, (rate,), method="tsit5", rtol=1e-3, atol=[1e-4, 1e-5])
    assert ordinary.stats.accepted < ROWS * 150 / masked_loop.SLOTS
    same(ordinary, masked)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_fixed_steps(method):
    y0, t, rate = problem()
    ordinary, masked = both(driven, y0, t, (rate,), method=method, step_size=0.07)
    same(ordinary, masked)
    assert masked.stats.rejected == 0


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf", "fbdf"])
def test_float32(method):
    y0, t, rate = problem(torch.float32)
    ordinary, masked = both(driven, y0, t, (rate,), method=method, rtol=1e-3, atol=1e-4)
    assert masked.y.dtype == torch.float32
    assert masked.success
    # Rounding can tip the choice of an order, within the tolerance of the solve.
    torch.testing.assert_close(masked.y, ordinary.y, rtol=1e-2, atol=1e-3)


def exploding(t, y, k):
    """Rows with k > 0 leave all bounds before t = 2; a row with NaN cannot begin."""
    return k.unsqueeze(1) * y * y


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf", "fbdf"])
def test_rows_that_fail(method):
    """Each failed row ends alone, with its own status, and its outputs before that."""
    k = tensor(0.0, 1.0, -1.0, torch.nan, 2.0)
    y0 = tensor([1.0], [1.0], [1.0], [1.0], [1.0])
    times = [0.0, 0.4, 0.9, 2.0]
    ordinary, masked = both(exploding, y0, times, (k,), method=method)
    same(ordinary, masked, steps=False)  # many are refused near infinity
    good = [status.success for status in masked.statuses]
    assert good == [True, False, True, False, False]
    assert masked.statuses[3] is Status.NONFINITE
    assert masked.y[:, 1, 0].isnan().tolist() == [False, False, False, True]
    assert "row 1" in str(masked.report())


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"max_steps": 12}, Status.MAX_STEPS),
        ({"min_step": 0.1, "first_step": 0.2}, Status.MIN_STEP),
        ({"step_size": 0.6}, Status.DIVERGED),
        ({"max_step": 0.05, "first_step": 0.01}, Status.SUCCESS),
    ],
    ids=["max_steps", "min_step", "diverged", "max_step"],
)
def test_limits_of_steps(options, status):
    """Some rows keep within the limits."""
    k = tensor(-0.1, -30.0, -100.0)
    y0 = tensor([1.0], [4.0], [40.0])
    ordinary, masked = both(exploding, y0, [0.0, 0.3, 1.5], (k,), method="tsit5", **options)
    same(ordinary, masked)
    assert status in masked.statuses
    assert Status.SUCCESS in masked.statuses


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "vern7", "qndf", "fbdf"])
def test_gradient(method, buckets, graphs):
    """In starts, args and times."""
    leaves = [x.requires_grad_() for x in problem()]
    y0, t, rate = leaves
    weights = torch.linspace(1, 2, t.numel() * 2, dtype=torch.float64).view(*t.shape, 2)
    found = [
        torch.autograd.grad((solution.y * weights).sum(), leaves)
        for solution in both(driven, y0, t, (rate,), method=method)
    ]
    assert len(buckets) > 2
    margin = 1e-3 if method in BDF else 1e-8
    for ordinary, masked in zip(*found):
        torch.testing.assert_close(masked, ordinary, rtol=margin, atol=margin)


def test_jumps():
    """Segments between the jumps of f are solves of their own."""
    y0, _, rate = problem()

    def f(t, y, rate):
        return driven(t, y, rate) + (t > 0.4)

    options = {"jumps": (0.4,), "method": "tsit5"}
    same(*both(f, y0, [0.0, 0.3, 0.5, 1.0], (rate,), **options))


def test_infinite_jacobian():
    """Only the host can replace its entries: the ordinary loop takes the solve, once."""

    def f(t, y):
        return 1 - torch.sqrt(y)

    y0 = tensor([0.0], [0.5]).requires_grad_()
    with pytest.warns(UserWarning, match="infinite"):
        ordinary, masked = both(f, y0, [0.0, 1.0], method="rodas5p")
    same(ordinary, masked)
    assert masked.stats.nfe == ordinary.stats.nfe
    found = [torch.autograd.grad(x.y[-1].sum(), y0)[0][1] for x in (ordinary, masked)]
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize(
    "options",
    [
        {"method": "kvaerno5"},
        {"events": Event(lambda t, y, rate: y[:, 0] - 0.1)},
        {"callback": lambda t, y, stats: False},
        {"max_seconds": 100.0},
        {"tstops": (0.3,)},
        {"max_nfe": 10**6},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_asks_for_the_host(options, monkeypatch):
    """Such solves take the ordinary loop."""
    y0, _, rate = problem()
    monkeypatch.setattr(masked_loop, "integrate", None)  # a call would raise
    options = {"method": "tsit5", **options}
    same(*both(driven, y0, [0.0, 0.5, 1.0], (rate,), **options))


def test_sizes_of_buckets():
    sizes = [masked_loop.bucket_size(rows) for rows in range(1, 5000)]
    assert all(size >= rows for rows, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 4


@pytest.mark.parametrize("passes", [0, -1, 1.5, "16"])
def test_impossible_passes(passes):
    with pytest.raises(ValueError, match="positive number"):
        TorchBackend(passes=passes)


def test_passes_without_rows():
    with pytest.raises(ValueError, match="batched=True"):
        solve(lambda t, y: -y, torch.ones(2), [0.0, 1.0], backend=MASKED)
