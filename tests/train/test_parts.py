"""The pieces of training: the model file, the warm start's arithmetic, the plots."""

import pickle

import numpy as np
import pytest
import torch

from pynode.core.sealed_files import save_torch
from pynode.train import (
    ModelError,
    Options,
    PhysicalField,
    ScaledField,
    Scaling,
    Slopes,
    collocation,
    load_model,
    plot_fit,
    plot_loss,
)
from pynode.train.model import ACTIVATIONS, build, describe, mlp, save_model
from pynode.train.report import fine_times
from pynode.train.warmstart import pchip, warm_start
from tests.support.pictures import curves
from tests.support.training import stiff_linear


@pytest.fixture(scope="module")
def data():
    return stiff_linear()


def make(data, **options):
    options = Options(hidden=(5,), **options)
    generator = torch.Generator().manual_seed(1)
    return build(
        options.architecture, Scaling.of(data, options.scaling), generator
    ), options.architecture


@pytest.mark.parametrize(
    "options", [{}, {"scaling": "kim"}, {"time_input": True}, {"activation": "tanh"}]
)
def test_model_file_round_trip(data, tmp_path, options):
    field, architecture = make(data, **options)
    run = data.trajectories[0]
    plain = describe(field, architecture, data.columns, run.y[0], run.t, time_unit="h")
    save_model(tmp_path / "model.pt", plain)
    again = load_model(tmp_path / "model.pt")
    assert again.time_unit == "h"
    y, t = (
        torch.tensor([[0.3, 0.4], [0.9, 0.1]], dtype=torch.float64),
        torch.tensor([0.1, 0.2], dtype=torch.float64),
    )
    here = PhysicalField(field, data.columns, run.y[0], run.t)
    assert torch.equal(again(t, y), here(t, y))
    assert torch.allclose(again(t[0], y[0]), here(t, y)[0])
    problem = again.as_problem("learned")
    assert problem.name == "learned" and problem.tspan == again.tspan and len(problem.atol) == 2


def test_physical_field_is_the_scaled_one_in_other_units(data):
    field, _ = make(data)
    scaling, run = field.scaling, data.trajectories[0]
    physical = PhysicalField(field, data.columns, run.y[0], run.t)
    y = torch.tensor([0.7, 0.2], dtype=torch.float64)
    expected = torch.tensor(scaling.y_scale) * field(0.0, scaling.scaled(y))
    assert torch.allclose(physical(0.0, y), expected)


def test_the_time_as_an_input_runs_from_0_to_1():
    scaling = Scaling("kim", (0.0,), (1.0,), (2.0,), t_start=4.0, t_span=2.0)
    clock = ScaledField(torch.nn.Linear(2, 1, bias=False).double(), scaling, time_input=True)
    with torch.no_grad():
        clock.net.weight.copy_(torch.tensor([[0.0, 1.0]]))
        u = torch.zeros(3, 1, dtype=torch.float64)
        assert (2 * clock(torch.tensor([4.0, 5.0, 6.0]), u)).flatten().tolist() == [0, 0.5, 1]
        assert (2 * clock(5.0, u)).flatten().tolist() == [0.5] * 3


class Malice:
    def __reduce__(self):
        return (print, ("this must not be printed",))


def test_model_file_can_run_no_code(tmp_path, capsys):
    torch.save({"format": 1, "architecture": Malice()}, tmp_path / "evil.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Malice()))
    for name in ("evil.pt", "pickle.pt"):
        with pytest.raises(ModelError, match="asks to run code, which is refused"):
            load_model(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_unusable_model_files(data, tmp_path):
    field, architecture = make(data)
    plain = describe(field, architecture, data.columns, [1.0, 1.0], [0.0, 1.0])
    cases = {
        "cut.pt": (None, "damaged or not a model file"),
        "text.pt": (b"time,a\n0,1\n", "damaged or not a model file"),
        "empty.pt": (b"", "damaged or not a model file"),
        "list.pt": ([1, 2], "no format number"),
        "future.pt": (plain | {"format": 3}, "has format 3, and this pynode reads formats 1 and 2"),
        "part.pt": ({"format": 1}, "does not describe a whole model"),
        "other.pt": (
            plain | {"architecture": architecture | {"hidden": [7]}},
            "does not describe a whole model",
        ),
        "activation.pt": (
            plain | {"architecture": architecture | {"activation": "sine"}},
            "unknown activation",
        ),
    }
    for name, (content, _) in cases.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            save_torch(tmp_path / name, content)
    save_torch(tmp_path / "whole.pt", plain)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:700])
    assert load_model(tmp_path / "whole.pt").columns == data.columns
    for name, (_, sentence) in cases.items():
        with pytest.raises(ModelError, match=sentence) as error:
            load_model(tmp_path / name)
        assert name in str(error.value)
    for absent in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(ModelError, match=r"check the name|cannot be opened"):
            load_model(absent)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks(activation):
    net = mlp(2, (4, 3), 5, activation)
    assert net(torch.zeros(7, 2, dtype=torch.float64)).shape == (7, 5)


def test_a_network_that_makes_no_sense():
    with pytest.raises(ValueError, match="unknown activation"):
        mlp(2, (4,), 2, "sine")
    with pytest.raises(ValueError, match="widths"):
        mlp(2, (), 2, "gelu")


def test_pchip_is_scipys():
    interpolate = pytest.importorskip("scipy.interpolate", reason="SciPy is the reference here")
    x = np.array([0.0, 1.0, 1.5, 4.0, 6.0])
    y = np.array([1.0, 3.0, 2.0, 2.0, 5.0])
    inner = np.linspace(1.0, 4.0, 40)
    mine = pchip(*(torch.tensor(v) for v in (x, y, inner))).numpy()
    assert np.allclose(mine, interpolate.PchipInterpolator(x, y)(inner))
    one = torch.tensor([2.0], dtype=torch.float64)
    assert pchip(one, one, torch.tensor([1.0, 2.0, 3.0]).double()).tolist() == [2.0, 2.0, 2.0]
    two = pchip(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 4.0]), torch.tensor([-1.0, 0.5, 3.0]))
    assert two.tolist() == [0.0, 1.0, 4.0]


def test_warm_start_chooses_and_improves(data):
    candidates = [make(data)[0] for _ in range(2)]
    with torch.no_grad():
        candidates[0].net[-1].weight.mul_(50)
    losses = []
    best = warm_start(
        candidates, data, iterations=60, trial=15, report=lambda *record: losses.append(record)
    )
    assert best is candidates[1]
    assert [done for done, _, _ in losses] == list(range(1, 76)) and losses[0][1] == 75
    assert losses[-1][2] < 0.5 * losses[15][2]


class Halved(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, t, y):
        return self.k * y


def test_the_loss_of_collocation():
    """Differences of slopes in units of the state's range over the time for which they tell."""
    points = Slopes(
        *(
            torch.tensor(x, dtype=torch.float64)
            for x in ([0.0, 1.0], [[0.0], [4.0]], [[1.0], [-3.0]], [2.0, 5.0])
        )
    )
    loss = collocation(Halved(), points, iterations=1)
    assert loss == pytest.approx((abs(0 - 1) * 2 / 4 + abs(2 + 3) * 5 / 4) / 2)


def test_warm_start_obeys_its_time(data):
    calls = []
    warm_start(
        [make(data)[0]], data, iterations=10**6, seconds=0.2, report=lambda *_: calls.append(0)
    )
    assert 0 < len(calls) < 5000


def test_curves_are_drawn_through_log_spaced_times():
    t = torch.cat((torch.zeros(1), torch.logspace(-5, 5, 50))).double()
    fine, log = fine_times(t)
    assert (
        log
        and float(fine[0]) == 0
        and float(fine[1]) == float(t[1])
        and float(fine[-1]) == float(t[-1])
    )
    assert bool((fine.diff() > 0).all())
    fine, log = fine_times(torch.tensor([-1.0, 0.0, 5.0]).double())
    assert not log and float(fine[0]) == -1 and float(fine[-1]) == 5
    # Many even times end at more than a thousand times the first one.
    _, log = fine_times(torch.linspace(0, 1, 5000, dtype=torch.float64))
    assert not log


def test_plots_are_drawn(tmp_path, figures):
    """Every observation and a curve through them; the losses, the lowest so far, and the saved
    model."""
    data = stiff_linear(((1.0, 0.0), (0.5, 1.0)))
    field, _ = make(data, scaling="kim")
    run = data.trajectories[0]
    physical = PhysicalField(field, data.columns, run.y[0], run.t)
    history = [{"epoch": k, "loss": 1.0 / (1 + k)} for k in range(5)]
    for path in (
        plot_fit(tmp_path / "fit.png", physical, data),
        plot_loss(tmp_path / "loss.png", history, 0.01),
    ):
        assert path.read_bytes().startswith(b"\x89PNG")
    fit, loss = figures
    assert [panel.get_ylabel() for panel in fit.axes] == list(data.columns)
    for i, panel in enumerate(fit.axes):
        dots = [line for line in panel.lines if line.get_linestyle() == "None"]
        for line, run in zip(dots, data.trajectories, strict=True):
            assert (
                line.get_xydata()[:, 1].tolist() == run.y[run.seen[:, i] & (run.t > 0), i].tolist()
            )
        models = [line for line in panel.lines if line.get_linestyle() != "None"]
        assert all(len(line.get_xydata()) > 100 for line in models)
    lines = curves(loss.axes[0])
    assert [y for _, y in lines["loss of the epoch"]] == [1 / (1 + k) for k in range(1, 5)]
    assert lines["lowest so far"] == lines["loss of the epoch"]
    assert lines["saved model: 0.01"] == [(5.0, 0.01)]
    assert plot_loss(tmp_path / "early.png", history[:1], 0.01).exists()
