"""The bars of long commands in a terminal."""

import pytest

from pynode.fit.progress import Live as FitLive
from pynode.train.progress import Live

RECORD = {"epoch": 399, "loss": 0.0123, "accepted": 12345, "nfe": 9, "backward_nfe": 4}


@pytest.mark.parametrize("columns", ["80", "140"])
def test_no_word_is_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    training = Live()
    training.warm(1999, 2000, 0.5)
    training.epoch({**RECORD, "seconds": 1.0}, 400, 0.01)
    training.close()
    fit = FitLive()
    fit.step("start", 19, 20, "objective -485.614 in 0.2 s; best -485.614, reached by 19")
    fit.close()
    assert "\N{HORIZONTAL ELLIPSIS}" not in capsys.readouterr().err
