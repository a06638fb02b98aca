"""EvaluationMonitor: every solve is counted once, in its epoch, with the work of its gradient."""

import copy
import csv

import pytest
import torch
from torch import nn

from pynode.nn import CNF, EvaluationMonitor, LatentODE, NeuralODE
from tests.support.cases import Forced, tensor


def test_counts_by_epoch_and_module(tmp_path):
    y0, x = tensor(1.0, 0.0, -1.0), torch.randn(4, 3, dtype=torch.float64)
    model = nn.ModuleDict(
        {"flow": NeuralODE(Forced(), method="tsit5"), "density": CNF(Forced(), 3, method="rodas5p")}
    )
    expected = []
    with EvaluationMonitor(model) as monitor:
        for solves in (1, 3):
            total = 0
            for _ in range(solves):
                model["flow"](y0).sum().backward()
                total += model["flow"].stats.nfe
            expected.append((total, solves * model["flow"].stats.backward_nvjp))
            monitor.end_epoch()
        model["density"].log_prob(x)
        (cost,) = monitor.end_epoch()
    assert (cost.module, cost.solves, cost.nfe) == ("density", 1, model["density"].stats.nfe)
    assert [(c.epoch, c.module, c.solves) for c in monitor.costs] == [
        (0, "flow", 1),
        (1, "flow", 3),
        (2, "density", 1),
    ]
    assert [(c.nfe, c.backward_nvjp) for c in monitor.costs[:2]] == expected and expected[0][1] > 0
    model["flow"](y0)  # after its end the monitor hears nothing
    assert monitor.end_epoch() == []
    with open(monitor.to_csv(tmp_path / "costs.csv")) as file:
        rows = list(csv.DictReader(file))
    assert [int(row["nfe"]) for row in rows] == [c.nfe for c in monitor.costs]


@pytest.mark.parametrize("encoder", ["gru", "ode-rnn"])
def test_a_latent_ode_is_counted_whatever_its_times(encoder):
    """One solve in the latent space for times (T,) and for (B, T), and one an observation in the
    recognition network."""
    x, t = torch.randn(3, 4, 2), torch.rand(3, 4).cumsum(1)
    model = LatentODE(nn.Linear(3, 3), nn.Linear(3, 2), 2, 3, encoder=encoder, rtol=1e-2, atol=1e-2)
    with EvaluationMonitor(model) as monitor:
        for times in (t[0], t):
            model(x, times)
            found = {cost.module: (cost.solves, cost.nfe) for cost in monitor.end_epoch()}
            assert found["flow"] == (1, model.stats.nfe)
            assert len(found) == 1 if encoder == "gru" else found["encoder.paced"][0] == 4


def test_table_and_picture(tmp_path, monkeypatch):
    rich = pytest.importorskip("rich.console")
    model = NeuralODE(Forced(), method="tsit5")
    monitor = EvaluationMonitor(model)
    model(tensor(1.0, 0.0, -1.0))
    nfe = monitor.end_epoch()[0].nfe
    console = rich.Console(width=120, record=True, quiet=False, file=open(tmp_path / "table", "w"))
    monitor.print(console)
    assert "NeuralODE" in console.export_text(clear=False) and str(nfe) in console.export_text()
    monkeypatch.setattr("matplotlib.use", None)  # the choice of a backend is the user's
    assert monitor.plot(tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_a_copy_is_not_listened_to():
    model = NeuralODE(Forced(), method="tsit5")
    monitor = EvaluationMonitor(model)
    copy.deepcopy(model)(tensor(1.0, 0.0, -1.0))
    assert monitor.end_epoch() == []


def test_a_model_without_solves_is_refused():
    with pytest.raises(ValueError, match="this Linear contains no NeuralODE or the like"):
        EvaluationMonitor(nn.Linear(2, 2))
