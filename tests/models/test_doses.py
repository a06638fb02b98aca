"""Doses against closed forms, loops over patients and differences."""

import math

import pytest
import torch

from pynode import Event, PresetTimes
from pynode.models import Doses

DOUBLE = torch.float64
NAN = math.nan
TIGHT = {"rtol": 1e-11, "atol": 1e-12, "method": "tsit5"}


class Body(torch.nn.Module):
    """Gut and blood. p: (2,), or (m, 2) for rows."""

    def forward(self, t, y, p):
        absorbed = p[..., 0] * y[..., 0]
        return torch.stack((-absorbed, absorbed - p[..., 1] * y[..., 1]), -1)


BODY = Body()
RATES = torch.tensor([1.2, 0.15], dtype=DOUBLE)
# Doses at one time, an infusion that begins with a bolus and one that begins as another ends.
TABLE = {
    "times": torch.tensor([[1.0, 5.0, 9.0], [2.0, 2.0, 5.0], [0.5, 6.0, NAN]], dtype=DOUBLE),
    "amounts": torch.tensor(
        [[100.0, 50.0, 20.0], [10.0, 20.0, 30.0], [5.0, 70.0, 0.0]], dtype=DOUBLE
    ),
    "duration": torch.tensor([[0.0, 2.0, 0.0], [0.0, 3.0, 1.0], [2.0, 0.0, 0.0]], dtype=DOUBLE),
    "bioavailability": torch.tensor(0.7, dtype=DOUBLE),
    "lag": torch.tensor(0.3, dtype=DOUBLE),
}
START = torch.zeros(2, dtype=DOUBLE)
AT = torch.tensor([0.0, 3.0, 7.0, 12.0], dtype=DOUBLE)


@pytest.fixture(params=["torch", "native"])
def engine(request):
    if request.param == "native":
        pytest.importorskip("numba", reason="the native engine needs numba")
    return request.param


def decay(t, y):
    return -0.5 * y


def decayed(time):
    """exp(-0.5 time), 0 before 0."""
    return math.exp(-0.5 * time) if time >= 0 else 0.0


def test_repeated_doses_that_arrive_late():
    doses = Doses([1.0], 8.0, interval=2.0, count=3, bioavailability=0.5, lag=0.25)
    found = doses.solve(decay, torch.zeros(1, dtype=DOUBLE), [0.0, 1.0, 4.0, 8.0], **TIGHT)
    for t, y in zip((0.0, 1.0, 4.0, 8.0), found.y[:, 0].tolist(), strict=True):
        assert abs(y - sum(4 * decayed(t - 1.25 - 2 * k) for k in range(3))) < 1e-9
    assert [float(record.t) for record in found.events] == [1.25, 3.25, 5.25]


@pytest.mark.parametrize("given", [{"duration": 2.0}, {"rate": 3.0, "bioavailability": 0.5}])
def test_an_infusion(given):
    """12 mg in 2 hours, or half of 12 mg at 3 mg an hour, which takes 2 hours."""
    rate = 6.0 if "duration" in given else 3.0
    found = Doses([1.0], 12.0, **given).solve(
        decay, torch.zeros(1, dtype=DOUBLE), [0.0, 2.0, 5.0], **TIGHT
    )
    during = 2 * rate * (1 - math.exp(-0.5))
    after = 2 * rate * (1 - math.exp(-1.0)) * math.exp(-1.0)
    assert abs(found.y[1, 0] - during) < 1e-9
    assert abs(found.y[2, 0] - after) < 1e-9


def test_targets_by_name():
    doses = Doses([0.0, 0.0], [1.0, 2.0], target=["blood", "gut"], states=("gut", "blood"))
    assert doses.solve(BODY, START, [0.0, 1.0], args=(RATES,)).y[0].tolist() == [2.0, 1.0]


def test_patients_in_a_batch_equal_a_loop(engine):
    options = {**TIGHT, "backend": engine}
    args = (RATES.expand(3, 2),)
    doses = Doses(**TABLE)
    rows = doses.solve(BODY, START.expand(3, 2), AT, args=args, batched=True, **options)
    for row in range(3):
        own = {name: value[row] if value.dim() else value for name, value in TABLE.items()}
        one = Doses(**own).solve(BODY, START, AT, args=(RATES,), **options)
        assert torch.allclose(rows.y[:, row], one.y, rtol=1e-8, atol=1e-8)


def test_one_table_for_all_rows_and_groups():
    table = [[0.0, 1.0], [2.0, NAN]]
    start = torch.zeros(3, 1, dtype=DOUBLE)
    both = Doses(table, 1.0, group=[1, 0, 1]).solve(decay, start, [0.0, 3.0], batched=True, **TIGHT)
    for row, line in enumerate(([2.0], [0.0, 1.0], [2.0])):
        all_rows = Doses(line, 1.0).solve(decay, start, [0.0, 3.0], batched=True, **TIGHT)
        assert torch.allclose(both.y[-1, row], all_rows.y[-1, row], atol=1e-9)


@pytest.mark.parametrize("batched", [False, True])
def test_gradients(engine, batched):
    """In all numbers of the table, also where doses coincide."""
    if batched:
        given = dict(TABLE)
        start = START.expand(3, 2)
        rates = RATES.expand(3, 2)
    else:
        given = {name: value[1] if value.dim() else value for name, value in TABLE.items()}
        start = START
        rates = RATES
    weights = torch.tensor([1.0, 0.3], dtype=DOUBLE)

    def loss(table):
        found = Doses(**table).solve(
            BODY, start, AT, args=(rates,), batched=batched, backend=engine, **TIGHT
        )
        return (found.y * weights).sum()

    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    found = torch.autograd.grad(loss(leaves), list(leaves.values()))
    for (name, value), gradient in zip(given.items(), found, strict=True):
        for i, number in enumerate(value.reshape(-1).tolist()):
            if math.isnan(number) or (name == "duration" and number == 0):
                continue
            step = 1e-5 * max(1.0, abs(number))
            ends = []
            for sign in (1, -1):
                moved = {key: x.clone() for key, x in given.items()}
                moved[name].view(-1)[i] += sign * step
                ends.append(loss(moved))
            expected = float((ends[0] - ends[1]) / (2 * step))
            assert abs(float(gradient.reshape(-1)[i]) - expected) < 1e-6 * max(1, abs(expected))


def test_forward_sensitivities_of_a_batch():
    """They equal the discrete adjoint's, with doses and infusions between the steps."""
    pytest.importorskip("numba", reason="the native engine needs numba")
    found = {}
    for adjoint in ("discrete", "forward"):
        leaves = {name: value.clone().requires_grad_() for name, value in TABLE.items()}
        rates = RATES.clone().requires_grad_()
        y = (
            Doses(**leaves)
            .solve(
                BODY,
                START.expand(3, 2),
                AT,
                args=(rates.expand(3, 2),),
                batched=True,
                backend="native",
                adjoint=adjoint,
                method="rodas5p",
            )
            .y.reshape(-1)
        )
        inputs = [*leaves.values(), rates]
        rows = torch.eye(len(y), dtype=DOUBLE)
        parts = torch.autograd.grad(y, inputs, rows, is_grads_batched=True)
        found[adjoint] = torch.cat([part.reshape(len(y), -1).nan_to_num() for part in parts], 1)
    assert torch.allclose(found["forward"], found["discrete"], rtol=1e-9, atol=1e-9)


def test_events_of_the_user_get_their_own_arguments():
    low = Event(lambda t, y, p: y[..., 0] - 2.0 + 0 * p[0], direction=-1, name="low")
    more = PresetTimes([3.0], lambda t, y, p: y + p)
    found = Doses([0.0], 5.0).solve(
        lambda t, y, p: -p * y,
        torch.zeros(1, dtype=DOUBLE),
        [0.0, 4.0],
        args=(torch.tensor([0.5], dtype=DOUBLE),),
        events=[low, more],
        **TIGHT,
    )
    assert [record.name for record in found.events] == ["dose", "low", "preset times"]
    assert abs(float(found.events[1].t) - 2 * math.log(2.5)) < 1e-9


def test_doses_without_an_interval_among_repeated_ones():
    """NaN marks a dose that is given once, and a patient without a dose needs no lag."""
    doses = Doses(
        [[0.0, 1.0], [0.5, NAN]],
        2.0,
        interval=[[NAN, 1.0], [NAN, NAN]],
        count=[[1, 3], [1, 1]],
        lag=[[0.0, 0.0], [0.0, NAN]],
    )
    start = torch.zeros(2, 1, dtype=DOUBLE)
    found = doses.solve(lambda t, y: 0 * y, start, [0.0, 5.0], batched=True)
    assert found.y[-1].tolist() == [[8.0], [2.0]]


@pytest.mark.parametrize("batched", [False, True])
def test_the_gradient_of_a_dose_at_the_start(engine, batched):
    """A later dose comes to a state that has gone on from y0."""

    def saturating(t, y):
        return -0.5 * y * (1 + 0.3 * y)

    def loss(first):
        times = torch.stack((first, first + 1))
        start = torch.full((1,), 2.0, dtype=DOUBLE)
        if batched:
            times = times.expand(2, 2)
            start = start.expand(2, 1)
        options = {**TIGHT, "backend": engine, "batched": batched}
        return Doses(times, 3.0).solve(saturating, start, [0.0, 3.0], **options).y[-1].sum()

    first = torch.tensor(0.0, dtype=DOUBLE, requires_grad=True)
    (found,) = torch.autograd.grad(loss(first), first)
    steps = [loss(torch.tensor(k * 1e-4, dtype=DOUBLE)) for k in range(3)]
    expected = (4 * steps[1] - 3 * steps[0] - steps[2]) / 2e-4
    assert abs(found - expected) < 1e-6


def test_single_precision_and_missing_amounts():
    share = torch.tensor(0.5, requires_grad=True)
    doses = Doses(
        [[0.0, NAN], [1.0, 2.0]],
        [[10.0, NAN], [10.0, 10.0]],
        duration=[[0.0, NAN], [1.0, 0.0]],
        bioavailability=share,
    )
    found = doses.solve(lambda t, y: 0 * y, torch.zeros(2, 1), [0.0, 3.0], batched=True)
    assert found.y.dtype == torch.float32
    assert torch.allclose(found.y[-1], torch.tensor([[5.0], [10.0]]), atol=1e-4)
    found.y[-1].sum().backward()
    assert abs(float(share.grad) - 30) < 1e-3
