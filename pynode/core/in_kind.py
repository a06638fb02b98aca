"""States of numbers and NumPy arrays, and answers in kind."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def is_plain(state: Any) -> bool:
    """Whether a state has no tensor, but numbers or NumPy arrays."""
    if isinstance(state, Tensor) or state is None:
        return False
    leaves = pytree.tree_leaves(state)
    return bool(leaves) and all(isinstance(leaf, (Real, np.ndarray, np.generic)) for leaf in leaves)


def has_arrays(state: Any) -> bool:
    """Whether a part of the state is a NumPy array."""
    return any(isinstance(leaf, np.ndarray) for leaf in pytree.tree_leaves(state))


def as_tensors(state: Any, f: Any) -> Any:
    """A plain state as tensors on the device of f: a vector for a list of numbers, a tensor for an
    array or a number, and the same structure around them. Numbers and integers get the dtype of the
    parameters of a module f, else float64."""
    dtype, device = _kind_of_parameters(f)

    def converted(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: converted(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)) and not all(map(_is_number, _flattened(part))):
            return tuple(map(converted, part))
        if isinstance(part, np.ndarray) and np.issubdtype(part.dtype, np.floating):
            return torch.tensor(np.ascontiguousarray(part)).to(device)
        return torch.tensor(part, dtype=dtype, device=device)

    return converted(state)


def as_arrays(state: Any) -> Any:
    """The same structure with a NumPy array for each tensor."""
    return pytree.tree_map(_as_array, state)


def _as_array(leaf):
    if isinstance(leaf, Tensor):
        return leaf.detach().cpu().numpy()
    return leaf


def _is_number(part):
    return isinstance(part, (Real, np.generic))


def _flattened(state):
    """The parts of nested lists and tuples."""
    for part in state:
        if isinstance(part, (list, tuple)):
            yield from _flattened(part)
        else:
            yield part


def _kind_of_parameters(f):
    """The dtype and the device of the first floating parameter or buffer of a module."""
    if isinstance(f, nn.Module):
        for tensor in (*f.parameters(), *f.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype, tensor.device
    return torch.float64, torch.device("cpu")
