"""Reference trajectories and sensitivities: the files of tests/reference, whose script says where
they come from."""

import json

import torch
from torch import Tensor

from tests.support import ROOT

FOLDER = ROOT / "tests" / "reference"
NAMES = ("hires", "oregonator", "pollution", "robertson", "vanderpol")


def load(name: str) -> dict:
    """Reference of a problem in float64: t (T,), y (T, n), y0 (n,), t0, parameters {p: value}, and
    sensitivity {p: (T, n)}.

    The sensitivity is the file's, scaled: p * dy/dp in the unit of y.
    """
    data = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))

    def tensor(values) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return {
        "t": tensor(data["t"]),
        "y": tensor(data["y"]),
        "y0": tensor(data["y0"]),
        "t0": data["t0"],
        "parameters": data["parameters"],
        "sensitivity": {p: tensor(values) for p, values in data["scaled_sensitivity"].items()},
    }
