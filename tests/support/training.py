"""Data and options of short training runs, and fields that fail on cue."""

from dataclasses import replace

import torch

from pynode.data import Dataset, Trajectory
from pynode.train import Options
from pynode.train.model import ACTIVATIONS
from pynode.train.progress import Lines

QUICK = Options(hidden=(8,), epochs=4, warm_start=20, candidates=2, rtol=1e-3)


def stiff_linear(starts=((1.0, 0.0),)):
    """y1' = -100 (y1 - y2), y2' = -y2 observed at 14 log-spaced times; one value is missing."""
    t = torch.cat((torch.zeros(1), torch.logspace(-3, 0.5, 14))).double()
    matrix = torch.tensor([[-100.0, 100.0], [0.0, -1.0]], dtype=torch.float64)
    flow = torch.linalg.matrix_exp(matrix * t[:, None, None])
    runs = []
    for k, start in enumerate(starts):
        seen = torch.ones(len(t), 2, dtype=torch.bool)
        seen[4, 0] = False
        start = torch.tensor(start, dtype=torch.float64) + torch.tensor([0.0, 1.0])
        runs.append(Trajectory(f"run {k}", t, (flow @ start) * seen, seen))
    return Dataset(("fast", "slow"), "t", tuple(runs))


class Cue(Lines):
    """A display of a training run, and an activation function that fails when the display says so.

    after: f fails from the end of this epoch on. times: the number of solves that fail. failure: a
    value that replaces that of f, or an exception, which f raises once. said: the sentences of the
    run.
    """

    def __init__(self, after, times=10**6, failure=torch.nan):
        super().__init__()
        self.after = after
        self.times = times
        self.failure = failure
        self.failing = False
        self.said = []

    def epoch(self, record, epochs, best):
        self.failing = record["epoch"] == self.after

    def warm(self, done, of, loss):
        pass

    def say(self, text):
        self.said.append(text)
        if len(self.said) == self.times:
            self.failing = False

    def activation(self):
        """A module of a network."""
        cue = self

        class OnCue(torch.nn.Tanh):
            def forward(self, x):
                if cue.failing and isinstance(cue.failure, BaseException):
                    cue.failing = False
                    raise cue.failure
                found = super().forward(x)
                return torch.full_like(found, cue.failure) if cue.failing else found

        return OnCue()

    def options(self, monkeypatch, options):
        """These options with the activation function that fails on cue, and with the torch engine:
        native code would not ask it."""
        monkeypatch.setitem(ACTIVATIONS, "on cue", self.activation)
        return replace(options, activation="on cue", backend="torch")


def weights(run):
    return torch.cat([p.detach().reshape(-1) for p in run.field.parameters()])
