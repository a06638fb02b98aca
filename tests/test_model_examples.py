"""The examples of the continuous-depth models run, with few steps, say what they learned, and draw it."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("script, picture, said", [
    ("augmented.py", "augmented/features.png", r"NeuralODE \d\.\d+, .*; AugmentedODE \d\.\d+, "),
    ("cnf.py", "cnf/moons.png", r"unseen points: \d\.\d+ nats.* integrates to (1\.0|0\.9)"),
    ("pendulum.py", "pendulum/energy.png", r"relative to the start: NeuralODE \d+\.\d %, Hamiltonian \d+\.\d %, Lagrangian \d"),
    ("arrhenius.py", "arrhenius/constants.png", r"log10 A +\d.*rate constants between 420 and 600 K \d+\.\d %"),
    ("hybrid.py", "hybrid/rate.png", r"the missing rate is learned to \d+\.\d %"),
    ("bouncing_ball.py", "bouncing_ball/heights.png", r"learned: gravity .* largest error \d+\.\d %"),
], ids=["augmented", "cnf", "pendulum", "arrhenius", "hybrid", "bouncing_ball"])
def test_the_example_runs(script, picture, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").mkdir()
    copy = shutil.copy(EXAMPLES / script, tmp_path / "examples")
    monkeypatch.setattr(sys, "argv", [script, "2"])
    runpy.run_path(str(copy), run_name="__main__")
    assert re.search(said, capsys.readouterr().out, re.DOTALL)
    assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
