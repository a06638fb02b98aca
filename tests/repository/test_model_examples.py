"""The examples of the continuous-depth models run, with few steps, say what they learned, and draw
it."""

import re
import runpy
import shutil
import sys

import pytest
import torch

from tests.support import ROOT
from tests.support.idx import idx

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize(
    "script, picture, said",
    [
        (
            "augmented.py",
            "augmented/features.png",
            r"NeuralODE \d\.\d+, .*; AugmentedODE \d\.\d+, ",
        ),
        ("cnf.py", "cnf/moons.png", r"unseen points: \d\.\d+ nats.* integrates to (1\.0|0\.9)"),
        (
            "digits.py",
            "digits/solvers.png",
            r"500 unseen digits named rightly: ResNet \d+\.\d % \(9,882 .* otherwise\)",
        ),
        (
            "latent_spirals.py",
            "latent_spirals/spirals.png",
            r"300 unseen spirals: latent ODE \d\.\d+, recurrent network \d",
        ),
        (
            "cde_spirals.py",
            "cde_spirals/spirals.png",
            r"\d\d\.\d% of 2,000 unseen spirals told right",
        ),
        ("control.py", "control/swing_up.png", r"the true one to -?\d+\.\d degrees of 180"),
        (
            "neural_sde.py",
            "neural_sde/double_well.png",
            r"lie \d\.\d+ from the true ones .* \d+\.\d% of them",
        ),
        (
            "pendulum.py",
            "pendulum/energy.png",
            r"relative to the start: NeuralODE \d+\.\d %, Hamiltonian \d+\.\d %, Lagrangian \d",
        ),
        (
            "arrhenius.py",
            "arrhenius/constants.png",
            r"rate constants between 420 and 600 K \d+\.\d % .*energies \d+\.\d %",
        ),
        ("hybrid.py", "hybrid/rate.png", r"the missing rate is learned to \d+\.\d %"),
        (
            "regularised.py",
            "regularised/spirals.png",
            r"evaluations .* rtol 1e-5: none \d+\.\d %, \d+; .* Jacobian \d+\.\d %, \d+",
        ),
        (
            "fit_arrhenius.py",
            "fit_arrhenius/fit.png",
            r"2 starts, .*\n[^$]*\d of the 8 intervals contain the true value",
        ),
        (
            "bouncing_ball.py",
            "bouncing_ball/heights.png",
            r"learned: gravity .* largest error \d+\.\d %",
        ),
        (
            "ignition.py",
            "ignition/delays.png",
            r"H \+ O2 <=> O \+ OH +-\d\.\d{3} +-0\.\d{3}",
        ),
        (
            "pharmacokinetics.py",
            "pharmacokinetics/patients.png",
            r"bioavailability  0\.\d+ \+- \d+\.\d+, true 0\.620\n",
        ),
    ],
    ids=[
        "augmented",
        "cnf",
        "digits",
        "latent_spirals",
        "cde_spirals",
        "control",
        "neural_sde",
        "pendulum",
        "arrhenius",
        "hybrid",
        "regularised",
        "fit_arrhenius",
        "bouncing_ball",
        "ignition",
        "pharmacokinetics",
    ],
)
def test_the_example_runs(script, picture, said, tmp_path, monkeypatch, capsys):
    run(tmp_path, monkeypatch, script, "2")
    assert re.search(said, capsys.readouterr().out)
    assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")


def run(folder, monkeypatch, script, *arguments):
    (folder / "examples").mkdir()
    for helper in ("picture", "mnist"):
        shutil.copy(EXAMPLES / f"{helper}.py", folder / "examples")
        monkeypatch.delitem(sys.modules, helper, raising=False)
    copy = shutil.copy(EXAMPLES / script, folder / "examples")
    monkeypatch.syspath_prepend(folder / "examples")
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(str(copy), run_name="__main__")


def test_the_digits_may_be_those_of_mnist(tmp_path, monkeypatch, capsys):
    for part, n in ("train", 40), ("t10k", 30):
        images, labels = torch.randint(256, (n, 28, 28)), torch.randint(10, (n,))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images.numpy()))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels.numpy()))
    run(tmp_path, monkeypatch, "digits.py", "1", str(tmp_path))
    assert re.search(r"30 unseen digits named rightly: ResNet \d+", capsys.readouterr().out)
