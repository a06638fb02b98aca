"""Integration without autograd."""

from __future__ import annotations

import torch

from ...core.batched_evaluation import cached_answer
from ...core.evaluation import RandomState
from ...core.saved_tensors import unhooked
from ...core.status import RejectStep


def run_in_inference_mode(run, inference=True):
    """run() without a graph: in inference mode, where an operation costs a fifth less, or under
    no_grad. inference: see serves_inference; False as well for states that a user gets to see."""
    with unhooked(), torch.inference_mode() if inference else torch.no_grad():
        return run()


def serves_inference(field, t, y) -> bool:
    """Whether f in inference mode is f: not where it differentiates inside itself, which fails
    there or gives zeros.

    Found out beforehand, at (t, y), y (n,): up to torch 2.8 at least, the derivatives of torch.func
    are zero in that mode. Random numbers and buffers stay as they are.
    """
    try:
        return cached_answer(field, "inference", lambda: _try_inference(field, t, y))
    except RejectStep:  # the integrator will tell
        return True


def _try_inference(field, t, y):
    random = RandomState(field.device)
    try:
        with unhooked(), torch.no_grad(), field.module_state.restored(()):
            wanted = field.probe(t, y.clone()).clone()
            random.restore()
            with torch.inference_mode():
                try:
                    found = field.probe(t, y.clone())
                except RuntimeError:  # f has just run, so this is the mode's
                    return False
                return torch.equal(wanted.nan_to_num(), found.nan_to_num())
    finally:
        random.restore()
