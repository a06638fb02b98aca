"""Integration without autograd."""

from __future__ import annotations

import torch

from ..lifetime import unhooked
from ..surroundings import derives_in_inference


def without_graph(run, inference=True):
    """run() in inference mode, where an operation costs a fifth less than under no_grad; again without it where f refuses it
    (a field that differentiates inside itself must). inference=False: not tried, for states that a user gets to see."""
    with unhooked():
        if inference and derives_in_inference():
            try:
                with torch.inference_mode():
                    return run()
            except RuntimeError:
                pass
        with torch.no_grad():
            return run()
