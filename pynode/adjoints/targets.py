"""From the tensors that native code reads to the parameters of the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.batched_cotangents import stacked

if TYPE_CHECKING:
    from ..core.batched_field import RowField
    from ..core.vector_field import VectorField


def of_parameters(
    field: VectorField | RowField,
    targets: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    rows: tuple[int, ...] = (),
) -> list[Tensor]:
    """Return the cotangents of field.parameters. cotangents: of targets, which the code reads.

    A target can be computed from parameters: torch then takes its cotangent further back. rows:
    (R,) if each cotangent has R rows, (R, ...).
    """
    found: dict[int, Tensor] = {}
    computed: list[Tensor] = []
    above: list[Tensor] = []
    for target, cotangent in zip(targets, cotangents, strict=True):
        inside = field.module_state.inside(target)
        # The same tensor can be two arguments, or an argument and a tensor that f holds.
        known = found.get(id(inside))
        found[id(inside)] = cotangent if known is None else known + cotangent
        if inside.grad_fn is not None:
            computed.append(inside)
            above.append(cotangent)
    parameters = field.parameters
    if computed and parameters:
        if rows:
            pulls = [_further(computed, parameters, row) for row in zip(*above, strict=True)]
            pulled = [stacked(parts) for parts in zip(*pulls, strict=True)]
        else:
            pulled = _further(computed, parameters, above)
        for parameter, further in zip(parameters, pulled, strict=True):
            if further is not None:
                # f can use a parameter directly as well.
                known = found.get(id(parameter))
                found[id(parameter)] = further if known is None else known + further
    zeros = [p.new_zeros((*rows, *p.shape)) for p in parameters]
    return [found.get(id(p), zero) for p, zero in zip(parameters, zeros, strict=True)]


def _further(computed, parameters, above):
    """The cotangents of the parameters from those above, of what is computed from them."""
    return torch.autograd.grad(computed, parameters, above, retain_graph=True, allow_unused=True)
