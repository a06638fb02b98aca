"""Integration without autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ...core.batched_evaluation import cached_answer
from ...core.evaluation import RandomState
from ...core.memory import raise_if_exhausted
from ...core.saved_tensors import unhooked
from ...core.status import RejectStep

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.vector_field import VectorField

R = TypeVar("R")


def run_in_inference_mode(run: Callable[[], R], inference: bool = True) -> R:
    """Return run() without a graph: in inference mode, where an operation costs a fifth less, or
    under no_grad. inference: the answer of serves_inference, or False if a user sees the states."""
    with unhooked(), torch.inference_mode() if inference else torch.no_grad():
        return run()


def serves_inference(field: VectorField | RowField, t: float | Tensor, y: Tensor) -> bool:
    """Whether f returns the same values in inference mode. An f that differentiates inside itself
    fails there or returns zeros.

    A trial at (t, y), y (n,), decides: at least up to torch 2.8 the derivatives of torch.func are
    zero in that mode. The trial changes neither random numbers nor buffers.
    """
    try:
        return cached_answer(field, "inference", lambda: _try_inference(field, t, y))
    except RejectStep:  # the integrator will report it
        return True


def _try_inference(field: VectorField | RowField, t: Any, y: Tensor) -> bool:
    random = RandomState(field.device)
    try:
        with unhooked(), torch.no_grad(), field.module_state.restored(()):
            expected = field.probe(t, y.clone()).clone()
            random.restore()
            with torch.inference_mode():
                try:
                    actual = field.probe(t, y.clone())
                except RuntimeError as error:  # f has just run, so the mode causes this error
                    raise_if_exhausted(error)
                    return False
                return torch.equal(expected.nan_to_num(), actual.nan_to_num())
    finally:
        random.restore()
