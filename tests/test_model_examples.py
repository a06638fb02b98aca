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
    ("cde_spirals.py", "cde_spirals/spirals.png", r"\d\d\.\d% of 2,000 unseen spirals told right"),
    ("control.py", "control/swing_up.png", r"the true one to -?\d+\.\d degrees of 180"),
    ("neural_sde.py", "neural_sde/double_well.png", r"lie \d\.\d+ from the true ones .* \d+\.\d% of them"),
], ids=["augmented", "cnf", "cde_spirals", "control", "neural_sde"])
def test_the_example_runs(script, picture, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").mkdir()
    copy = shutil.copy(EXAMPLES / script, tmp_path / "examples")
    monkeypatch.setattr(sys, "argv", [script, "2"])
    runpy.run_path(str(copy), run_name="__main__")
    assert re.search(said, capsys.readouterr().out)
    assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
