"""Preset times and jumps of their own for every row of a batch: values, gradients, and what they
cost."""

import pytest
import torch

from pynode import Event, PresetTimes, solve
from tests.support.cases import tensor

TIGHT = {"rtol": 1e-9, "atol": 1e-11}


def decay(t, y, *args):
    return -0.5 * y


def doses(count, each, seed=0):
    generator = torch.Generator().manual_seed(seed)
    steps = 6 + 8 * torch.rand(count, each, dtype=torch.float64, generator=generator)
    return torch.cumsum(steps, 1)


@pytest.mark.parametrize("method", ["tsit5", "qndf", "rodas5p"])
@pytest.mark.parametrize("direction", [1, -1])
def test_every_row_has_its_own_doses(method, direction):
    """Against a closed form, with the gradients in times and doses; one row has fewer of them, one
    has none in its span."""
    given = [tensor(1.0, 2.5), tensor(0.7), tensor(9.0)]
    times = [direction * line for line in given]
    times = [line.requires_grad_() for line in times]
    dose = tensor(2.0, 3.0, 4.0, requires_grad=True)
    preset = PresetTimes(times, lambda t, y, dose: y + dose.unsqueeze(1), name="dose")

    def f(t, y, dose):
        return -direction * 0.5 * y

    y0 = torch.ones(3, 1, dtype=torch.float64)
    options = {"method": method, "args": (dose,), "events": preset, "batched": True, **TIGHT}
    solution = solve(f, y0, [0.0, direction * 2.0, direction * 3.0], **options)

    def exact(i, end):
        size = torch.exp(tensor(-0.5 * end))[0]
        for time in times[i]:
            if direction * float(time) <= end:
                size = size + dose[i] * torch.exp(-0.5 * (end - direction * time))
        return size

    right = torch.stack([torch.stack([exact(i, end) for i in range(3)]) for end in (2.0, 3.0)])
    accuracy = 1e-8 if method != "qndf" else 1e-6
    torch.testing.assert_close(solution.y[1:, :, 0], right, rtol=0, atol=accuracy)
    assert [[record.index for record in records] for records in solution.events] == [
        [0, 1],
        [0],
        [],
    ]
    leaves = [dose, times[0], times[1]]
    found, wanted = (torch.autograd.grad(y.sum(), leaves) for y in (solution.y[-1], right[-1]))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=10 * accuracy)


def test_a_row_stops_at_its_own_times_alone():
    """50 rows of 6 doses each take about as many steps as with 6 doses for all: they do not stop at
    all 300 times."""
    times, y0 = doses(50, 6), torch.zeros(50, 1, dtype=torch.float64)
    options = {"method": "tsit5", "batched": True}

    def steps(times):
        preset = PresetTimes(times, lambda t, y: y + 100)
        return solve(decay, y0, [0.0, 90.0], events=preset, **options).stats.accepted

    common = steps(torch.linspace(6, 80, 6))
    assert steps(times) < 1.3 * common
    assert steps(times.flatten()) > 2 * common


def test_rows_equal_rows_alone_and_events_follow():
    """The doses of each row as if it were alone, and an event that a dose carries the row over."""
    times, y0 = doses(4, 5, seed=1), torch.zeros(4, 1, dtype=torch.float64)
    times[2, 3:] = torch.nan
    high = Event(lambda t, y: y[..., 0] - 1.5, direction=1, name="high")
    options = {"method": "tsit5", **TIGHT}

    def add(t, y):
        return y + 1

    together = solve(
        lambda t, y: -0.1 * y,
        y0,
        [0.0, 70.0],
        events=[PresetTimes(times, add), high],
        batched=True,
        **options,
    )
    for i in range(4):
        own = times[i][~torch.isnan(times[i])]
        alone = solve(
            lambda t, y: -0.1 * y,
            y0[i],
            [0.0, 70.0],
            events=[PresetTimes(own, add), high],
            **options,
        )
        torch.testing.assert_close(together.y[-1, i], alone.y[-1], rtol=1e-7, atol=1e-9)
        assert [r.name for r in together.events[i]] == [r.name for r in alone.events]
    assert any(r.name == "high" for records in together.events for r in records)


@pytest.mark.parametrize("direction", [1, -1])
def test_jumps_of_their_own(direction):
    """f switches at another time in every row, with the gradient in these times."""
    when = (direction * tensor([0.7], [1.3])).requires_grad_()
    at = when.detach().squeeze(1)

    def f(t, y, at):
        on = direction * t >= direction * at.unsqueeze(1)
        return direction * (-y + torch.where(on, 3.0, 1.0))

    y0 = torch.zeros(2, 1, dtype=torch.float64)
    options = {"method": "tsit5", "args": (at,), "jumps": when, "batched": True, **TIGHT}
    solution = solve(f, y0, [0.0, direction * 2.0], **options)
    length = direction * when
    right = 3 + (1 - torch.exp(-length) - 3) * torch.exp(length - 2)
    torch.testing.assert_close(solution.y[-1], right, rtol=0, atol=1e-8)
    found, wanted = (torch.autograd.grad(y.sum(), when)[0] for y in (solution.y[-1], right))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7)


def test_wrong_times_are_refused():
    preset = PresetTimes([[1.0], [2.0]], lambda t, y: y)
    y0 = torch.ones(3, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="there are 3 rows: give a line for each row"):
        solve(decay, y0, [0.0, 1.0], events=preset, batched=True)
    with pytest.raises(ValueError, match="a line for each row, which batched=True"):
        solve(decay, y0, [0.0, 1.0], events=preset)
    with pytest.raises(ValueError, match="finite, or NaN"):
        PresetTimes(torch.full((2, 2), torch.inf), lambda t, y: y)
