"""Solutions and failures that are pickled, saved, copied, or sent between processes."""

import copy
import io
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch import multiprocessing

import pynode
from pynode import Event, SolveError, Status, solve
from pynode.core.leaves import LostLeaves
from tests.support.cases import tensor

END = 2.0


def decay(t, y):
    return -y


def explode(t, y):
    return y * y


class Decay(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, t, y):
        return -self.rate * y


def saved(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def again(thing):
    return pickle.loads(pickle.dumps(thing))


def twice(thing):
    return again(again(thing))


every_way = pytest.mark.parametrize(
    "way", [again, copy.deepcopy, saved, twice], ids=["pickle", "deepcopy", "save", "twice"]
)


def bounce(condition=lambda t, y: y[0] - 0.5):
    return Event(condition, reset=lambda t, y: y * 1.5, name="bounce")


# What every family and adjoint keeps: (keywords of solve). A lambda as f, so that nothing of it can
# come along.
KINDS = {
    "explicit": {"method": "tsit5"},
    "bdf": {"method": "qndf"},
    "fbdf": {"method": "fbdf"},
    "rosenbrock": {"method": "rodas5p"},
    "dirk": {"method": "kvaerno5"},
    "radau": {"method": "radauiia5"},
    "auto": {"method": "auto"},
    "checkpoints": {"adjoint": pynode.DiscreteAdjoint(checkpoints=4)},
    "gauss": {"adjoint": "gauss"},
    "direct": {"adjoint": "direct"},
    "event": {"method": "qndf", "events": [bounce()]},
}


@every_way
@pytest.mark.parametrize(
    ("engine", "kind"),
    [*(("single", kind) for kind in KINDS), *(("julia", k) for k in ("explicit", "bdf", "event"))],
    indirect=["engine"],
)
def test_dense_output_and_counts_come_along(engine, kind, way):
    rate = tensor(1.5).requires_grad_()
    options = {"dense": True, **KINDS[kind]}
    solution = engine.solve(
        lambda t, y: -rate * y, tensor(1.0, 2.0), [0.0, 1.0, END], **options
    ).solution
    came = way(solution)
    assert came.y.detach().equal(solution.y.detach()) and came.t.equal(solution.t)
    assert (
        came.status is solution.status
        and came.stats == solution.stats
        and came.choice == solution.choice
    )
    times = [0.0, 0.3, 1.9, END]
    assert came(times).detach().equal(solution(times).detach())
    assert came.derivative(times).detach().equal(solution.derivative(times).detach())
    assert [record.t.item() for record in came.events] == [
        record.t.item() for record in solution.events
    ]


@every_way
@pytest.mark.parametrize("engine", ["single", "julia"], indirect=True)
def test_a_copy_says_that_it_has_no_graph(engine, way):
    field = Decay()
    options = {"dense": True, "events": [bounce()], "method": "qndf"}
    came = way(engine.solve(field, tensor(1.0), [0.0, END], **options).solution)
    assert "no graph" in repr(came)
    record = came.events[0]
    for value in (came.y, came(0.5), came.derivative(0.5), record.t, record.y, record.after):
        with pytest.raises(RuntimeError, match="has lost its graph"):
            (field.rate + value.sum()).backward()
    with pytest.raises(ValueError, match="no dense output"):
        way(engine.solve(field, tensor(1.0), [0.0, END], method="qndf").solution)(0.5)


@every_way
def test_without_a_graph_there_is_nothing_to_refuse(way):
    came = way(solve(decay, tensor(1.0), [0.0, END], dense=True))
    assert "no graph" not in repr(came) and not came.y.requires_grad and not came(0.5).requires_grad
    assert came.y.numpy()[-1] == pytest.approx(0.1353352832, rel=1e-5)
    time = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    came(time).sum().backward()  # in the time it needs no graph
    assert float(time.grad) == pytest.approx(-0.60653, rel=1e-4)


def test_the_mark_does_not_depend_on_the_mode_of_loading():
    written = pickle.dumps(solve(Decay(), tensor(1.0), [0.0, END]))
    with torch.no_grad():
        came = pickle.loads(written)
    with pytest.raises(RuntimeError, match="has lost its graph"):
        came.y.sum().backward()


def test_a_shallow_copy_shares_the_graph():
    field = Decay()
    copy.copy(solve(field, tensor(1.0), [0.0, END])).y[-1].sum().backward()
    assert field.rate.grad is not None
    rows = solve(
        field, torch.ones(2, 1, dtype=torch.float64), [0.0, END], batched=True, method="tsit5"
    )
    field.rate.grad = None
    copy.copy(rows).y[-1].sum().backward()
    assert field.rate.grad is not None


@every_way
def test_structured_states(way):
    start = {"a": tensor(1.0), "b": (tensor(0.0),)}
    solution = solve(lambda t, y: {"a": -y["a"], "b": (y["a"],)}, start, [0.0, END], dense=True)
    came = way(solution)
    assert came.y["b"][0].equal(solution.y["b"][0]) and came(0.5)["b"][0].equal(
        solution(0.5)["b"][0]
    )


def test_a_pickle_is_as_large_as_what_is_in_it():
    """Polynomials that look into one memory (Julia's do) would each bring all of it."""
    solution = solve(
        decay, torch.ones(100, dtype=torch.float64), [0.0, 50.0], dense=True, method="tsit5"
    )
    path = solution._trajectory
    size = sum(p.numel() for p in path.polynomials) * 8
    joined = torch.cat(path.polynomials)
    path.polynomials = list(joined.split([len(p) for p in path.polynomials]))
    assert len(path.polynomials) > 5 and len(pickle.dumps(solution)) < 1.5 * size + 20_000


@every_way
def test_a_failure_arrives_with_its_report(way):
    with pytest.raises(SolveError) as caught:
        solve(lambda t, y: y * y, tensor(1.0), (0.0, END))
    error = caught.value
    error.add_note("a note") if hasattr(error, "add_note") else setattr(
        error, "__notes__", ["a note"]
    )
    came = way(error)
    assert type(came) is SolveError and str(came) == str(error) and came.status is error.status
    assert came.__notes__ == ["a note"]
    assert came.solution.y.equal(error.solution.y) and came.report().cause == "blow-up"
    assert len(came.solution.t) == 1 and 0.9 < came.solution.reached < 1.1
    assert str(came.report()) == str(error.report())
    assert copy.copy(error).solution is error.solution


@every_way
def test_rows(way):
    start = tensor(0.1, 1.0, 2.0).reshape(3, 1).requires_grad_()
    rows = solve(
        lambda t, y: y * y,
        start,
        [0.0, END],
        batched=True,
        method="tsit5",
        throw=False,
        max_steps=60,
        events=[Event(lambda t, y: y[:, 0] - 0.11)],
    )
    came = way(rows)
    assert (
        came.statuses == rows.statuses
        and came.reached == rows.reached
        and came.message == rows.message
    )
    assert came.y.detach().nan_to_num().equal(rows.y.detach().nan_to_num())
    assert came.events[0][0].t.item() == rows.events[0][0].t.item()
    with pytest.raises(RuntimeError, match="has lost its graph"):
        came.y.nansum().backward()
    assert came.report().row == 1  # of the first row that failed
    with pytest.raises(ValueError, match=r"call report\(2\) before"):
        came.report(2)
    rows.report(2)
    assert way(rows).report(2).row == 2
    with pytest.raises(SolveError):
        came.check()


@every_way
def test_paths_of_stochastic_equations(way):
    solution = pynode.sde.solve_sde(decay, lambda t, y: 0.1 * y, tensor(1.0), [0.0, 1.0], dt=0.1)
    came = way(solution)
    assert came.y.equal(solution.y) and came.brownian(0.33).equal(solution.brownian(0.33))
    failed = pynode.sde.solve_sde(
        lambda t, y: y**5, lambda t, y: y, tensor(9.0), [0.0, 9.0], dt=0.5, throw=False
    )
    assert not failed.success
    with pytest.raises(ValueError, match="ordinary differential equations have reports"):
        way(failed).report()


def test_what_else_is_found():
    """Other results, and an error that is not made from its message."""
    between = pynode.odeint_dense(lambda t, y: (-y[0], y[0]), (tensor(1.0), tensor(2.0)), 0.0, 1.0)
    assert again(between)(0.5)[1].equal(between(0.5)[1])
    checked = pynode.check_gradients(Decay(), tensor(1.0), [0.0, 1.0], directions=1)
    assert str(again(checked)) == str(checked)
    found = pynode.diagnose(lambda t, y: -1000 * (y - torch.cos(t)), tensor(0.0), [0.0, 0.1])
    assert str(again(found)) == str(found)
    error = LostLeaves([tensor(1.0, 2.0)])
    assert str(again(error)) == str(error)


@pytest.mark.parametrize("status", Status)
def test_a_status_is_known_by_its_name(status):
    assert pickle.loads(pickle.dumps(status)) is status and copy.deepcopy(status) is status
    assert status.sentence.encode() not in pickle.dumps(status)


def _job(f):
    return solve(f, torch.ones(1, dtype=torch.float64), (0.0, END))


def test_from_another_process():
    """By the pickler of torch.multiprocessing as well, which shares memory and refuses tensors that
    have a graph."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_job, decay).result().y.equal(_job(decay).y)
        assert "no graph" in repr(pool.submit(_job, Decay()).result())
        with pytest.raises(SolveError) as caught:
            pool.submit(_job, explode).result()
    assert caught.value.report().cause == "blow-up"
