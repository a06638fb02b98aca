"""The display of a running solve."""

import pytest
import torch

from pynode import solve
from pynode.core import solve_progress
from pynode.core.solve_progress import SolveProgress
from pynode.core.stats import Stats


class Kept:
    """A display that keeps what it is told."""

    interval = 0.0

    def __init__(self):
        self.shown = []
        self.closed = False

    def show(self, done, text):
        self.shown.append((done, text))

    def close(self):
        self.closed = True


@pytest.fixture
def display(monkeypatch):
    kept = Kept()
    monkeypatch.setattr(solve_progress, "best_display", lambda: kept)
    return kept


@pytest.mark.parametrize("batched", [False, True])
def test_a_solve_shows_how_far_it_is(display, batched):
    start = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    solve(lambda t, y: -y, start, [0.0, 1.0, 3.0], method="tsit5", batched=batched, progress=True)
    parts = [done for done, _ in display.shown]
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)
    assert "t = 3 of 3" in display.shown[-1][1]
    assert display.closed


def test_the_display_closes_after_an_error(display):
    def broken(t, y):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        solve(broken, torch.ones(1), [0.0, 1.0], progress=True)
    assert display.closed


def test_the_callback_of_the_user_still_stops_the_solve(display):
    solution = solve(
        lambda t, y: -y, torch.ones(1), [0.0, 1.0], callback=lambda *_: True, progress=True
    )
    assert solution.status.name == "CALLBACK"


def test_the_part_is_counted_in_outputs():
    kept = Kept()
    progress = SolveProgress([0.0, 1e-3, 1.0, 1e3], kept)
    progress.after_step(1.0, Stats(accepted=5))
    assert kept.shown[0][0] == pytest.approx(2 / 3)
    assert "5 steps" in kept.shown[0][1]


def test_backwards_in_time():
    kept = Kept()
    SolveProgress([1.0, 0.0], kept).after_step(0.25, Stats())
    assert kept.shown[0][0] == pytest.approx(0.75)


def test_without_a_terminal_lines_go_to_stderr(capsys):
    lines = solve_progress.Lines()
    lines.show(0.5, "t = 1 of 2, 7 steps")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(" 50%  t = 1 of 2, 7 steps, ")
    assert captured.err.endswith(" left\n")
