"""DiscreteAdjoint with checkpoints on native solves: less memory, and the same gradient in every
bit."""

import numpy as np
import pytest
import torch

from pynode import DiscreteAdjoint, Event, PresetTimes, solve
from pynode.adjoints.native.pullback import interpreted, pullback, pullback_many
from pynode.backends.native import checkpoints as restarts
from pynode.backends.native.checkpoints import Checkpoints
from pynode.translate.field import translate
from tests.support.cases import Forced, leaf, tensor
from tests.support.native_solves import forced, literature, native, network, random_like

FAMILIES = ["Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5", "QNDF", "FBDF"]


def paths(case, method, count, loop=None, **options):
    """(field, times, a solve with its whole record, the same with restart points)."""
    f, y0, times = case
    field = translate(f, y0, float(times[0]))
    found = [
        native(f, y0, times, method, extra={"record": True, "checkpoints": wanted}, **options)
        for wanted in (None, Checkpoints(count))
    ]
    return field, times.tolist(), *found


def assert_equal_bits(one, other):
    np.testing.assert_array_equal(one.y0, other.y0)
    for a, b in zip(one.targets, other.targets, strict=True):
        np.testing.assert_array_equal(a, b)


def gradients(adjoint, f, y0, t, **options):
    """(solution, gradients of a weighted sum of the outputs)."""
    start = leaf(y0)
    solution = solve(f, start, t, adjoint=adjoint, backend="native", **options)
    loss = (random_like(solution.y.shape) * solution.y).sum()
    return solution, torch.autograd.grad(loss, [start, *f.parameters()], retain_graph=True)


@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.parametrize("method", FAMILIES)
def test_the_same_bits(method, count):
    """Outputs lie inside steps, at their ends, and at the edges of pieces."""
    f, y0, times = forced()
    edges = native(f, y0, times[[0, -1]], method, extra={"record": True}).starts[[3, 30]]
    times = torch.cat((times, torch.from_numpy(edges))).unique()
    field, at, whole, kept = paths((f, y0, times), method, count)
    assert whole.restarts is None and kept.restarts is not None
    assert kept.states is None and len(kept.memory.tape_y) == 0
    np.testing.assert_array_equal(whole.outputs, kept.outputs)
    grads = random_like((len(at), 2)).numpy()
    found = pullback(field, kept, at, grads)
    assert_equal_bits(pullback(field, whole, at, grads), found)
    assert found.counts["steps"] >= whole.accepted
    assert_equal_bits(pullback(field, kept, at, grads), found)  # and again


@pytest.mark.parametrize("name", ["robertson", "hires", "pollution"])
@pytest.mark.parametrize("method", ["Kvaerno5", "QNDF", "FBDF"])
def test_stiff_problems(name, method):
    """Their steps fail and their Jacobians serve for many steps. Pollution has sparse factors."""
    field, at, whole, kept = paths(literature(name), method, 7)
    grads = random_like((len(at), field.n)).numpy()
    assert_equal_bits(pullback(field, whole, at, grads), pullback(field, kept, at, grads))


@pytest.mark.parametrize("method", ["Rodas5P", "FBDF"])
def test_many_cotangents(method):
    """They go back over each piece together: the steps are repeated once for all. The last ones
    need no steps, or few."""
    field, at, whole, kept = paths(network(), method, 4)
    grads = random_like((5, len(at), 3)).numpy()
    grads[3] = 0.0
    grads[4, 2:] = 0.0
    alone = pullback(field, kept, at, grads[0]).counts["steps"]
    found = pullback_many(field, kept, at, grads, threads=2)
    assert_equal_bits(pullback_many(field, whole, at, grads), found)
    assert found.counts["steps"] == alone


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_the_python_of_the_loops(method):
    field, at, whole, kept = paths(forced(), method, 3)
    grads = random_like((len(at), 2)).numpy()
    found = pullback(field, kept, at, grads, loop=interpreted)
    np.testing.assert_allclose(found.y0, pullback(field, whole, at, grads).y0, rtol=1e-12)


@pytest.mark.parametrize("method", FAMILIES)
def test_few_steps_are_kept_at_once(method, monkeypatch):
    """In the solve, and on the way back: at most ``count`` restart points, and as many steps."""
    held = []
    resize = restarts.resize

    def watched(blocks, capacity):
        held.append(capacity)
        resize(blocks, capacity)

    monkeypatch.setattr(restarts, "resize", watched)
    _, _, whole, kept = paths(forced(), method, 5)
    points = []
    for first, steps in kept.restarts.backwards(kept.accepted):
        points.append(len(kept.restarts.restarts.points))
        assert len(steps.starts) <= 5
        np.testing.assert_array_equal(steps.states, whole.states[first : first + len(steps.starts)])
    assert whole.accepted > 25
    assert max(held) == 5 and max(points) == 5


@pytest.mark.parametrize(("method", "size"), [("Tsit5", 8000), ("Rodas5P", 8000), ("QNDF", 30_000)])
def test_max_memory(method, size):
    """Restart points and steps take half of it each."""
    f, y0, times = forced()
    small = DiscreteAdjoint(max_memory=size)
    expected = gradients("discrete", f, y0, times, method=method, rtol=1e-8, atol=1e-10)
    found = gradients(small, f, y0, times, method=method, rtol=1e-8, atol=1e-10)
    for one, other in zip(found[1], expected[1], strict=True):
        assert torch.equal(one, other)
    record = found[0]._trajectory.solved.restarts
    sizes = [sum(a.nbytes for a in point.content[1].values()) for point in record.restarts.points]
    assert 1 < len(sizes) and sum(sizes) <= size / 2
    pieces = record.backwards(found[0].stats.accepted)
    assert max(sum(part.nbytes for part in steps) for _, steps in pieces) <= size / 2 + 16
    with pytest.raises(ValueError, match=r"max_memory.*give at least that"):
        solve(f, leaf(y0), times, method=method, adjoint=DiscreteAdjoint(max_memory=200),
              backend="native")  # fmt: skip


def test_a_short_solve_repeats_nothing():
    f, y0, times = forced()
    found = gradients(DiscreteAdjoint(checkpoints=500), f, y0, times, method="rodas5p")
    assert found[0].stats.backward_steps == 0
    dense = solve(f, leaf(y0), times, method="rodas5p", adjoint=DiscreteAdjoint(checkpoints=2),
                  backend="native", dense=True)  # fmt: skip
    assert dense(tensor(0.3)).shape == (1, 2)


def stopping(t, y):
    return y[0] - 0.45


CASES = {
    "jumps": {"jumps": [0.7, 1.9]},
    "stops": {"tstops": [0.7, 1.9], "max_step": 0.1},
    "resets": {"events": PresetTimes([0.5, 1.5], lambda t, y: 1.1 * y)},
    "an event": {"events": Event(stopping, terminal=True)},
    "a bound": {"nonnegative": [0]},
    "a domain": {"domain": lambda t, y: bool(y[0] < 1.05)},
    "a callback": {"callback": lambda t, y, stats: float(t) > 1.2},
}


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "FBDF"])
@pytest.mark.parametrize("case", CASES)
def test_what_looks_at_steps(case, method):
    """Events and callbacks see each step once, and repeated steps end where the first ones did."""
    y0 = tensor(1.0, -0.5, 0.3)
    options = {"method": method, "rtol": 1e-8, "atol": 1e-10, "throw": False, **CASES[case]}
    found = [
        gradients(adjoint, Forced(), y0, (0.0, 0.8, 2.5), **options)
        for adjoint in ("discrete", DiscreteAdjoint(checkpoints=4))
    ]
    assert found[0][0].reached == found[1][0].reached
    for one, other in zip(found[1][1], found[0][1], strict=True):
        assert torch.equal(one, other)
    assert found[1][0].stats.backward_steps > 0


def test_changed_outputs_and_changed_tensors():
    """The user may change the outputs; the steps are repeated with the tensors of the solve."""
    f, y0, times = forced()
    adjoint = DiscreteAdjoint(checkpoints=3)
    expected = gradients("discrete", f, y0, times, method="fbdf")[1]
    start = leaf(y0)
    y = solve(f, start, times, method="fbdf", adjoint=adjoint, backend="native").y
    weights = random_like(y.shape)
    held = y.detach()
    held.mul_(0.0)
    found = torch.autograd.grad(y, [start, f.k], weights, retain_graph=True)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert not held.any()
    with torch.no_grad():
        f.k.mul_(2.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        torch.autograd.grad(y, f.k, weights)


def test_a_domain_that_changes_is_told():
    answers = iter([False] + [True] * 10_000)
    domain = lambda t, y: next(answers) if float(t) > 0.5 else True  # noqa: E731
    f = Forced()
    start = leaf(tensor(1.0, -0.5, 0.3))
    y = solve(
        f, start, (0.0, 2.0), method="tsit5", domain=domain, backend="native", rtol=1e-8,
        adjoint=DiscreteAdjoint(checkpoints=3),
    ).y  # fmt: skip
    with pytest.raises(RuntimeError, match="repeated"):
        y.sum().backward()
