"""Training on systems with an input u(t): each trajectory has its own."""

from dataclasses import replace

import pytest
import torch

from pynode.data import read
from pynode.train import Options, Scaling, fit, load_model
from pynode.train.accuracy import accuracy
from pynode.train.inputs import Inputs
from pynode.train.objective import Objective
from pynode.train.scaling import PhysicalField, ScaledField
from tests.support.training import QUICK

T = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def integrals(u, kind):
    """The integral of u from 0 to each of the times T."""
    total = [0.0]
    for before, after in zip(u[:-1], u[1:], strict=True):
        total.append(total[-1] + (before if kind == "held" else 0.5 * (before + after)))
    return total


@pytest.fixture(params=["held", "linear"])
def tanks(request):
    """Two trajectories of dy/dt = u."""
    inputs = {"x": [1.0, 1.0, 1.0, -2.0, -2.0, -2.0], "y": [0.0, 0.0, 3.0, 3.0, 3.0, 3.0]}
    if request.param == "linear":
        inputs = {"x": [1.0, 0.5, 2.0, -2.0, -1.0, 0.0], "y": [0.0, 1.0, 3.0, 2.5, 2.0, 1.5]}
    runs = {
        name: {"t": T, "u": u, "level": integrals(u, request.param)} for name, u in inputs.items()
    }
    data = read(runs, inputs=("u",))
    assert data.held == (request.param == "held")
    return data


class InputAlone(torch.nn.Module):
    """A network whose output is dy/dt = u in scaled states: a constant and the input."""

    def __init__(self, scaling):
        super().__init__()
        self.unit = scaling.t_scale[0] / scaling.y_scale[0]
        self.low = scaling.inputs.low[0]
        self.size = scaling.inputs.size[0]

    def forward(self, x):
        return self.unit * (self.low + self.size * x[..., 1:2])


def exact(data):
    scaling = Scaling.of(data, "kim")
    return ScaledField(InputAlone(scaling), scaling)


def test_each_trajectory_is_solved_with_its_own_input(tanks):
    field = exact(tanks)
    options = Options(method="dopri5", backend="torch", rtol=1e-8)
    objective = Objective(tanks, field.scaling, options)
    assert objective.value(field)[0] < 1e-6 < objective.baseline()
    assert objective.value(field)[0] < 1e-6  # again, and in segments
    loss, _, _ = objective.part(field, 1, 2)
    assert float(loss) < 1e-6


def test_learned_field_takes_other_inputs(tanks):
    first = tanks.trajectories[0]
    field = PhysicalField(exact(tanks), tanks.columns, first.y[0], first.t)
    y = torch.zeros(1, dtype=torch.float64)
    assert field.inputs == ("u",)
    assert float(field(0.0, y)) == pytest.approx(float(first.u[0]))
    other = field.with_inputs(first.t, torch.full((6, 1), 7.0, dtype=torch.float64))
    assert float(other(2.0, y)) == pytest.approx(7.0)
    assert float(field(0.0, y)) == pytest.approx(float(first.u[0]))
    assert max(accuracy(field, tanks, method="dopri5", backend="torch").of_largest) < 1e-6


def test_inputs_are_plain_data(tanks):
    scaling = Scaling.of(tanks)
    assert Scaling.from_dict(scaling.as_dict()) == scaling
    assert scaling.inputs == Inputs.of(tanks)
    scaled = torch.cat([scaling.inputs.scaled(run.u) for run in tanks.trajectories])
    assert float(scaled.min()) == 0 and float(scaled.max()) == 1


def test_a_field_with_inputs_asks_for_them(tanks):
    with pytest.raises(ValueError, match="this field has inputs"):
        exact(tanks)(0.0, torch.zeros(1, dtype=torch.float64))


def test_fields_without_inputs_take_none():
    data = read({"t": T, "a": [0, 1, 2, 3, 5, 8]})
    field = PhysicalField(ScaledField(torch.nn.Identity(), Scaling.of(data)), ("a",), [0.0], T)
    assert field.inputs == () and field.stops == {}
    with pytest.raises(ValueError, match="it takes none"):
        field.with_inputs(data.trajectories[0].t, data.trajectories[0].y)


def test_every_stage_of_a_run_takes_inputs(tanks, tmp_path):
    options = replace(
        QUICK, collocation=5, segments=2, polish=1, epochs=2, backend="torch", method="dopri5"
    )
    run = fit(tanks, options, tmp_path)
    assert run.best < run.baseline * 2
    loaded = load_model(tmp_path / "model.pt")
    y = torch.ones(1, dtype=torch.float64)
    assert torch.equal(loaded(1.5, y), run.field(1.5, y))
    again = fit(tanks, options, tmp_path, resume=True)
    assert again.best == run.best
