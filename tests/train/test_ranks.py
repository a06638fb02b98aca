"""Training on two processes that torchrun starts: the result of one."""

import functools
import json
import os
import subprocess
import sys

import pytest
import torch

from pynode.train import load_model
from pynode.train.model import load_plain
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


pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)
# Runs the command after the first two words, the name of an action and an epoch. At the end of this
# epoch, the first process asks the launcher to end, or the second dies.
STOPPED = """
import os, signal, sys, time
from pynode.cli import main
from pynode.train.run import Run

keep_epoch = Run.keep_epoch

def stopping(run):
    if run.epoch == int(sys.argv[2]):
        if sys.argv[1] == "death" and run.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[1] != "death" and run.ranks.first:
            os.kill(os.getppid(), getattr(signal, sys.argv[1]))
            time.sleep(60)
    keep_epoch(run)

Run.keep_epoch = stopping
sys.exit(main(sys.argv[3:]))
"""


def ran(table, out, processes, options, program=("-m", "pynode")):
    """A run that is over."""
    launcher = ()
    if processes > 1:
        launcher = ("-m", "torch.distributed.run", "--nproc-per-node", str(processes))
    command = [sys.executable, *launcher, *program, "train", str(table), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, "--json", *OPTIONS.split(), *options],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def trained(table, out, processes, options):
    """The JSON object of a run, and the weights of its model."""
    done = ran(table, out, processes, options)
    assert done.stdout.startswith("{"), done.stderr
    weights = torch.cat([p.detach().reshape(-1) for p in load_model(out / "model.pt").parameters()])
    return json.loads(done.stdout), weights


def folder_alone(table, options):
    return table.parent / f"alone{len(options)}"


@functools.cache
def trained_alone(table, options):
    """The same of a run on one process."""
    return trained(table, folder_alone(table, options), 1, options)


@pytest.mark.parametrize("options", [(), ("--seeds", "2", "--learn-starts", "--hold-out", "1")])
def test_two_processes_have_the_result_of_one(table, tmp_path, options):
    alone, weights = trained_alone(table, options)
    both, same = trained(table, tmp_path / "two", 2, options)
    assert both["best"] == pytest.approx(alone["best"], rel=1e-6)
    assert torch.allclose(same, weights, rtol=1e-6, atol=1e-8)
    assert both["epochs"] == alone["epochs"] and both["verdict"]["word"] == alone["verdict"]["word"]
    assert sorted(p.name for p in folder_alone(table, options).iterdir()) == sorted(
        p.name for p in (tmp_path / "two").iterdir()
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_an_interruption_loses_nothing(table, tmp_path):
    """torchrun's signal ends one run, and the death of a process the next, which resumed it. The
    rest is then the same as without interruptions."""
    out = tmp_path / "out"
    program = tmp_path / "stopped.py"
    program.write_text(STOPPED, encoding="utf-8")
    # The epoch at whose end the signal comes is not over yet in the first process.
    for action, epoch, kept, more in (("SIGTERM", "3", 2, ()), ("death", "7", 7, ("--resume",))):
        done = ran(table, out, 2, more, (str(program), action, epoch))
        assert done.returncode == 1
        assert load_plain(out / "checkpoint.pt", "checkpoint")["epoch"] == kept
        if action == "SIGTERM":  # after a death, torchrun's own signal can come before the verdict
            assert json.loads((out / "verdict.json").read_text(encoding="utf-8"))["interrupted"]
    whole, weights = trained(table, out, 2, ("--resume",))
    alone, same = trained_alone(table, ())
    assert whole["epochs"] == alone["epochs"] and not whole["interrupted"]
    assert torch.allclose(same, weights, rtol=1e-6, atol=1e-8)
