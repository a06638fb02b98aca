"""Training on two processes that torchrun starts: the result of one."""

import json
import os
import subprocess
import sys

import pytest
import torch

from pynode.train import load_model
from tests.support import ROOT
from tests.support.training import stiff_linear

OPTIONS = "--hidden 8 --rtol 1e-4 --epochs 6 --segments 3 --polish 4 --warm-start 30 --candidates 2"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "data.csv"
    lines = ["run,t,fast,slow"]
    for run in stiff_linear(((1.0, 0.0), (2.0, 0.0), (0.5, 1.0), (3.0, 1.0))).trajectories:
        for t, y in zip(run.t.tolist(), run.y.tolist(), strict=True):
            lines.append(f"{run.name},{t},{y[0]},{y[1]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained(table, out, processes, options):
    """The JSON object of a run, and the weights of its model."""
    command = [sys.executable, "-m", "pynode", "train", str(table), "--out", str(out), "--json"]
    if processes > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
        command = [*torchrun, str(processes), *command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *OPTIONS.split(), *options],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.stdout.startswith("{"), done.stderr
    weights = torch.cat([p.detach().reshape(-1) for p in load_model(out / "model.pt").parameters()])
    return json.loads(done.stdout), weights


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)
@pytest.mark.parametrize("options", [(), ("--seeds", "2", "--learn-starts", "--hold-out", "1")])
def test_two_processes_have_the_result_of_one(table, tmp_path, options):
    alone, weights = trained(table, tmp_path / "one", 1, options)
    both, same = trained(table, tmp_path / "two", 2, options)
    assert both["best"] == pytest.approx(alone["best"], rel=1e-6)
    assert torch.allclose(same, weights, rtol=1e-6, atol=1e-8)
    assert both["epochs"] == alone["epochs"] and both["verdict"]["word"] == alone["verdict"]["word"]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(
        p.name for p in (tmp_path / "two").iterdir()
    )
