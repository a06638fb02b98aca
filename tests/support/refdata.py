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


def tolerances(problem, rtol):
    """rtol and the problem's suggested atol in the same proportion."""
    factor = rtol / problem.rtol
    atol = problem.atol
    return {
        "rtol": rtol,
        "atol": tuple(a * factor for a in atol) if isinstance(atol, tuple) else atol * factor,
    }


def scaled_gradients(problem, y):
    """k dy/dk, (T, n, p), one backward pass an output."""
    k = problem.field.k
    rows = [
        torch.stack([torch.autograd.grad(value, k, retain_graph=True)[0] for value in state])
        for state in y
    ]
    return torch.stack(rows) * k.detach()


def sensitivity(reference, problem):
    """(T, n, p) of the reference, in the order of the field's constants."""
    return torch.stack([reference["sensitivity"][name] for name in problem.parameters], dim=2)


def thinned(reference, every):
    """The reference at every so many times, the last one too, and the scale of its sensitivities
    over all times."""
    keep = list(range(len(reference["t"]) - 1, -1, -every))[::-1]
    thin = {**reference, "t": reference["t"][keep], "y": reference["y"][keep]}
    thin["sensitivity"] = {name: values[keep] for name, values in reference["sensitivity"].items()}
    return thin, sensitivity_scale(reference)


def sensitivity_scale(reference):
    """(n, p): the largest |sensitivity| of each component to each constant over the times, 1 where
    it is never one."""
    values = torch.stack(list(reference["sensitivity"].values()), dim=2).abs().amax(0)
    return torch.where(values > 0, values, torch.ones_like(values))
