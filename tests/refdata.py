"""Reference trajectories and sensitivities, made outside this repository and read only by its tests."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("PYNODE_REFDATA", Path(__file__).resolve().parents[2] / "shared" / "refdata"))
NAMES = ("hires", "oregonator", "pollution", "robertson", "vanderpol")


def load(name: str) -> dict:
    """Reference of a problem in float64: t (T,), y (T, n), y0 (n,), t0, parameters {p: value}, and sensitivity {p: (T, n)}.

    The sensitivity is the file's, scaled: p * dy/dp in the unit of y. Skips the test where there is no reference folder; a
    folder that lacks the file is an error.
    """
    if not FOLDER.is_dir():
        pytest.skip(f"no reference data: {FOLDER} is not a folder; set PYNODE_REFDATA to the one with {name}.json")
    data = json.loads((FOLDER / f"{name}.json").read_text())

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
