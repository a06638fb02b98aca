"""Doses that make no sense are refused in sentences."""

import math

import pytest
import torch

from pynode.models import Doses

DOUBLE = torch.float64
NAN = math.nan


def decay(t, y):
    return -0.5 * y


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Doses([0.0, 1.0], [1.0, 2.0, 3.0]), "does not fit"),
        (lambda: Doses([0.0], 1.0, duration=1.0, rate=1.0), "leave out one"),
        (lambda: Doses([0.0], 1.0, interval=1.0), "both interval and count"),
        (lambda: Doses([0.0], 1.0, interval=1.0, count=0), "at least 1"),
        (lambda: Doses([0.0], 1.0, interval=1.0, count=2.5), "whole number"),
        (lambda: _solved(Doses([0.0], 1.0, interval=-1.0, count=2)), "positive time"),
        (lambda: _solved(Doses([0.0], 1.0, interval=0.0, count=2)), "positive time"),
        (lambda: _solved(Doses([0.0], 1.0, interval=NAN, count=2)), "positive time"),
        (lambda: _solved(Doses([0.5], 1.0, lag=-0.1)), "lag of -0.1 moves a dose before its time"),
        (lambda: _solved(Doses([0.0, 0.5], 1.0, lag=[0.0, -1.0])), "lag of -1"),
        (lambda: _solved(Doses([0.5], 1.0, lag=NAN)), "lag of a dose is NaN"),
        (lambda: _solved(Doses([0.0], 1.0, duration=-1.0)), "positive"),
        (lambda: _solved(Doses([0.0], 1.0, target="x")), "no state 'x'"),
        (lambda: _solved(Doses([0.0], 1.0, target=3)), "component 3"),
        (lambda: _solved(Doses([[0.0]], 1.0)), "pass batched=True"),
    ],
)
def test_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _solved(doses):
    return doses.solve(decay, torch.zeros(1, dtype=DOUBLE), [0.0, 1.0])
