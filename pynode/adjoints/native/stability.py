"""Looks for gradients that are mostly noise, as adjoints/discrete/stability.py, after a native
solve."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...backends.native.machine import FIELD
from ...backends.native.trajectory import NativeTrajectory
from ..discrete.stability import LARGEST, check_explicit, sampled


def watches(field: Any, trajectory: NativeTrajectory) -> bool:
    """Whether ``check`` looks at a trajectory, with the field's Jacobian."""
    return field.n <= LARGEST and sampled(trajectory.accepted) is not None


def check(
    field: Any,
    trajectory: NativeTrajectory,
    inputs: np.ndarray,
    seen: dict[int, np.ndarray] | None = None,
) -> None:
    """Warn if an explicit method kept fast modes alive. inputs: addresses of the parameters. seen:
    the states of sampled steps, where the trajectory does not have them."""
    chosen = sampled(trajectory.accepted)
    if chosen is None or not watches(field, trajectory):
        return
    if trajectory.restarts is None:
        states = np.ascontiguousarray(trajectory.states[chosen])
    elif seen:
        chosen = np.array(sorted(seen))
        states = np.stack([seen[k] for k in chosen.tolist()])
    else:
        return
    n = field.n
    jac = field.function("jac")
    call = FIELD(jac.address)
    rows, columns = field.pattern()
    starts = trajectory.starts[chosen].tolist()
    values = np.empty((len(chosen), len(rows)), states.dtype)
    work = np.empty(max(1, jac.work), states.dtype)
    scratch = work.ctypes.data
    addresses = inputs.ctypes.data
    state = states.ctypes.data
    value = values.ctypes.data
    for i, t in enumerate(starts):
        y = state + i * states.strides[0]
        call(t, y, y, addresses, value + i * values.strides[0], scratch)
    matrices = np.zeros((len(chosen), n, n), states.dtype)
    matrices[:, rows, columns] = values
    sizes = torch.from_numpy(trajectory.sizes[chosen].astype(states.dtype))
    check_explicit(trajectory.method, torch.from_numpy(matrices), sizes)
