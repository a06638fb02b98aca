"""Ends that nobody chose: a signal saves like Ctrl-C, a full disk is told with the name of the
file."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from pynode.cli import main, signals
from pynode.cli import train as cli_train
from pynode.cli.signals import Asked, ends_politely
from pynode.core import files
from pynode.train import load_model
from pynode.train.model import load_plain
from tests.support import ROOT

DATA = str(ROOT / "examples" / "data" / "robertson.csv")
TRAIN = [
    "train",
    DATA,
    "--hidden",
    "4",
    "--warm-start",
    "2",
    "--candidates",
    "1",
    "--rtol",
    "1e-2",
    "--epochs",
]
# The codes of a run that ended: its verdict is told by the second.
DONE = (0, 3)
NAMES = [name for name in signals.NAMES if hasattr(signal, name)]
needs_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)
# A training that says when its second epoch is done, and then waits for what comes.
WAITING = """
import signal, sys, time
from pynode.cli import main, train

for name in ("SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)  # nohup ignores SIGHUP

class Waiting(train.display().__class__):
    def epoch(self, record, epochs, best):
        if record["epoch"] == 2:
            print("waiting", flush=True)
            while True:  # a signal that comes just before signal.pause() would not end it
                time.sleep(0.01)

train.display = Waiting
sys.exit(main(sys.argv[1:]))
"""


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert main([*TRAIN, "4", "--out", str(out), "--quiet"]) in DONE
    return out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
@pytest.mark.parametrize("name", NAMES)
def test_a_signal_saves_and_the_resumed_run_is_the_uninterrupted_one(name, uninterrupted, tmp_path):
    command = [sys.executable, "-c", WAITING, *TRAIN, "4", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert any(line == "waiting\n" for line in process.stdout)
        process.send_signal(getattr(signal, name))
        _, error = process.communicate()
    assert process.returncode == 128 + getattr(signal, name)
    assert "interrupted after epoch 2; add --resume to go on" in error
    assert (
        load_plain(tmp_path / "checkpoint.pt", "checkpoint")["epoch"] == 2
        and (tmp_path / "fit.png").exists()
    )
    assert main([*TRAIN, "4", "--out", str(tmp_path), "--quiet", "--resume"]) in DONE
    whole, parts = (
        load_plain(path / "checkpoint.pt", "checkpoint") for path in (uninterrupted, tmp_path)
    )
    for key in ("weights", "best_weights"):
        assert all(torch.equal(whole[key][part], parts[key][part]) for part in whole[key])
    y = load_model(tmp_path / "model.pt").y0
    assert all(
        torch.equal(
            load_model(path / "model.pt")(0.0, y), load_model(tmp_path / "model.pt")(0.0, y)
        )
        for path in (uninterrupted, tmp_path)
    )


@pytest.fixture
def not_ignored():
    """The signals have their default effect, also if nohup started the tests."""
    numbers = [getattr(signal, name) for name in NAMES]
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("not_ignored")
def test_the_first_signal_ends_and_later_ones_leave_the_saving_alone(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with ends_politely() as ending:
        assert ending.code == 130
        with pytest.raises(Asked):
            os.kill(os.getpid(), number)
        for other in NAMES:
            os.kill(os.getpid(), getattr(signal, other))
        assert ending.code == 128 + number
    assert signal.getsignal(number) is before


def test_what_nohup_ignores_stays_ignored_and_other_threads_change_nothing():
    number = getattr(signal, NAMES[-1])
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with ends_politely():
            os.kill(os.getpid(), number)
        found = []

        def inside():
            with ends_politely() as ending:
                found.append((ending.code, signal.getsignal(signal.SIGTERM)))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        assert found == [(130, signal.getsignal(signal.SIGTERM))]
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("at", ["first", "last"])
def test_an_end_while_saving_begins_the_saving_again(at, tmp_path, monkeypatch):
    """In the first of all checkpoints and in that of the end, a signal interrupts the write
    once."""
    real, calls = os.fsync, []

    def once(descriptor):
        calls.append(descriptor)
        # config.toml, three files before the first epoch, three after the last one.
        if len(calls) == (2 if at == "first" else 5):
            os.kill(os.getpid(), signal.SIGTERM)
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", once)
    assert main([*TRAIN, "2", "--out", str(tmp_path), "--quiet"]) == 143
    assert load_plain(tmp_path / "checkpoint.pt", "checkpoint")["epoch"] == (
        0 if at == "first" else 2
    )
    assert {"checkpoint.pt", "model.pt", "history.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert not list(tmp_path.glob(".*"))


def test_an_end_before_anything_is_saved(uninterrupted, tmp_path, monkeypatch, capsys):
    def early(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_train, "fit_best", early)
    assert main([*TRAIN, "4", "--out", str(tmp_path)]) == 130
    assert "interrupted; nothing had been saved yet." in capsys.readouterr().err
    assert main([*TRAIN, "4", "--out", str(uninterrupted), "--resume"]) == 130
    assert "interrupted; the checkpoint is as it was." in capsys.readouterr().err


@needs_full
@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "model.pt", "history.csv", "loss.png", "fit.png"]
)
def test_a_full_disk_while_training_or_drawing_names_the_file(name, tmp_path, capsys):
    (tmp_path / name).symlink_to("/dev/full")
    assert main([*TRAIN, "1", "--out", str(tmp_path), "--quiet", "--overwrite"]) == 1
    sentence = "could not be written: the disk is full. Make room, or choose another directory."
    assert capsys.readouterr().err == f"pynode: {tmp_path / name} {sentence}\n"


@needs_full
@pytest.mark.parametrize(
    "command, name",
    [
        (["solve", "robertson", "--out", "{}"], "y.csv"),
        (["solve", "robertson", "--plot", "{}"], "y.png"),
        (
            ["compare", "lotka_volterra", "--methods", "tsit5", "--out", "{parent}"],
            "compare-lotka_volterra.csv",
        ),
        (
            ["compare", "lotka_volterra", "--methods", "tsit5", "--out", "{parent}"],
            "compare-lotka_volterra.png",
        ),
        (["diagnose", "lotka_volterra", "--out", "{parent}"], "diagnosis-lotka_volterra.json"),
        (["diagnose", "lotka_volterra", "--out", "{parent}"], "diagnosis-lotka_volterra.png"),
    ],
)
def test_every_command_names_the_file_that_the_full_disk_lacks(command, name, tmp_path, capsys):
    path = tmp_path / name
    path.symlink_to("/dev/full")
    assert main([part.format(path, parent=tmp_path) for part in command]) == 1
    assert f"{path} could not be written: the disk is full. Make room" in capsys.readouterr().err


def test_the_standard_output_may_be_full_as_well(monkeypatch, capsys):
    class Full(io.StringIO):
        flush = full

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["methods", "--references"]) == 1
    assert (
        capsys.readouterr().err
        == "pynode: the standard output could not be written: no space left on device.\n"
    )
