"""What is measured in a data set."""

import json
import math

import pytest
import torch

from pynode.cli import main
from pynode.data import dataset, read
from pynode.data.picture import plot_data
from pynode.data.summary import from_differences, summarise, turning_points

SEED = 5


def noisy(y, size, seed=SEED):
    generator = torch.Generator().manual_seed(seed)
    return y + size * torch.randn(y.shape, dtype=y.dtype, generator=generator)


@pytest.mark.parametrize("even", [True, False])
def test_noise_is_told_from_a_smooth_curve(even):
    t = torch.linspace(0, 20, 400, dtype=torch.float64)
    if not even:
        t = t + 0.02 * torch.sin(40 * t)
    clean = torch.sin(t)
    assert from_differences([(t, noisy(clean, 0.1))]) == pytest.approx(0.1, rel=0.15)
    assert from_differences([(t, clean)]) < 1e-6
    parts = [(t[:200], noisy(clean[:200], 0.1)), (t[200:], noisy(clean[200:], 0.1, SEED + 1))]
    assert from_differences(parts) == pytest.approx(0.1, rel=0.2)


def test_few_points_tell_no_noise():
    t = torch.arange(5, dtype=torch.float64)
    assert from_differences([(t, t**2)]) is None


def test_turning_points_are_those_beyond_a_threshold():
    y = torch.tensor([0.0, 1.0, 0.9, 2.0, 0.0, 0.1, 3.0])
    assert turning_points(y, 0.5) == [3, 4]
    assert turning_points(y, 0.05) == [1, 2, 3, 4]
    assert turning_points(torch.zeros(9), 0.1) == []


def test_an_oscillation_has_a_period_and_decades():
    t = torch.linspace(0, 20, 200, dtype=torch.float64)
    y = torch.stack((10 ** torch.sin(math.pi * t), (-t).exp()), 1)
    wave, decay = summarise(dataset(t, y)).states
    assert wave.period == pytest.approx(2.0, rel=0.02) and wave.turns >= 18
    assert wave.decades == pytest.approx(2.0, rel=0.02)
    assert decay.turns == 0 and decay.period is None


def test_noise_of_replicates_and_of_errors():
    table = {"t": [0, 0, 1, 1, 2, 3], "a": [1.0, 1.2, 2.0, 2.4, 3.0, 4.0]}
    (state,) = summarise(read(table)).states
    assert state.known_by == "replicates"
    assert state.noise == pytest.approx(math.sqrt((2 * 0.1**2 + 2 * 0.2**2) / 2))
    (state,) = summarise(read({**table, "s": [0.3] * 6}, errors=("a=s",))).states
    assert (state.noise, state.known_by) == (0.3, "errors")


CSV = "Time [h],u,A [mM],A_sd\n" + "".join(
    f"{t},{int(t > 4)},{2 + math.sin(t)},0.1\n" if t != 3 else "3,0,,\n" for t in range(20)
)


@pytest.fixture
def csv_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tank.csv").write_text(CSV)
    return "tank.csv"


def test_command_says_what_was_understood(csv_file, capsys):
    options = ["--input", "u", "--error", "A_sd"]
    assert main(["data", csv_file, *options]) == 0
    out, talk = capsys.readouterr()
    for words in ("'Time [h]', from 0 to 19 h", "A [mM]", "Inputs: u", "'A_sd' is the standard"):
        assert words in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "Oscillating: A [mM]" in out and "out/data-tank.png" in talk


def test_command_prints_json_and_draws(csv_file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "p.png"
    assert main(["data", csv_file, "--drop", "A_sd", "--json", "--out", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["time_unit"] == "h" and found["span"] == [0, 19]
    assert [state["name"] for state in found["states"]] == ["u", "A [mM]"]
    assert found["states"][1]["missing"] == 1 and found["files"] == [str(picture)]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_command_refuses_in_a_sentence(csv_file, capsys):
    assert main(["data", csv_file, "--time", "days"]) == 2
    assert "no column 'days' for the time" in capsys.readouterr().err


def test_constant_states_are_shown_and_not_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.csv").write_text("t,a,b\n0,1,5\n1,2,5\n2,3,5\n3,4,5\n")
    assert main(["data", "c.csv"]) == 0
    assert "'b' never changes" in capsys.readouterr().out


def test_picture_of_trajectories_with_gaps_over_decades(tmp_path):
    pytest.importorskip("matplotlib")
    runs = {}
    for k in range(8):
        t = [0.0, *(10.0**j for j in range(-3, 4))]
        y = [1.0, None, *(k + j for j in range(6))]
        runs[f"run {k}"] = {"t": t, "y": y}
    assert plot_data(tmp_path / "many", read(runs)).stat().st_size > 10_000
