"""The dominant eigenvalue of a Jacobian by the power method, from a matrix or from differences of
f."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField


class DominantMode(NamedTuple):
    """The dominant mode of a linear map, in the coordinates of the iteration.

    radius: a lower estimate of the largest |eigenvalue|; 0 if the map is zero, infinite if a
    product is not finite. cosine: of the angle between the last vector and its image; near 1 or -1
    if this eigenvalue is real. vector: the last image, (n,), with norm one; None if the radius is
    zero or infinite.
    """

    radius: float
    cosine: float
    vector: torch.Tensor | None


@torch.no_grad()
def power_method(
    product: Callable[[Tensor], Tensor], v: Tensor, iterations: int, accuracy: float = 0.0
) -> DominantMode:
    """Find the dominant mode of a linear map.

    product: maps (n,) to (n,). v: the start vector, (n,), not zero. iterations: the largest number
    of products. accuracy: stop if the estimate changes by less than this fraction. This costs one
    synchronisation per product. With 0, the function does all products and synchronises once at the
    end.
    """
    tiny = torch.finfo(v.dtype).tiny
    last = math.inf
    for iteration in range(iterations):
        unit = v / v.norm().clamp_min(tiny)
        v = product(unit)
        if accuracy:
            size = v.norm().item()
            if not 0 < size < math.inf:
                break
            if iteration > 1 and abs(size - last) < accuracy * size:
                break
            last = size
    size = v.norm().item()
    if not 0 < size < math.inf:
        return DominantMode(0.0 if size == 0 else math.inf, 0.0, None)
    return DominantMode(size, torch.dot(unit, v).item() / size, v / size)


def any_direction(y: Tensor) -> Tensor:
    """A start vector, (n,), for the power method. It has a part of every mode."""
    return torch.cos(torch.arange(len(y), dtype=y.dtype, device=y.device))


def scaled_matrix_product(
    jacobian: Tensor, y: Tensor, tol: Tolerance
) -> Callable[[Tensor], Tensor]:
    """The product with a Jacobian, (n, n), at the state y, (n,), in units of the tolerances."""
    scale = tol.scale(y).detach()
    scaled = jacobian.detach() * scale / tol.scale_or_inf(scale).unsqueeze(1)
    return lambda v: torch.mv(scaled, v)


def scaled_difference_product(
    field: VectorField, t: float, y: Tensor, f0: Tensor, tol: Tolerance
) -> Callable[[Tensor], Tensor]:
    """The product with df/dy at (t, y) by differences of f, in units of the tolerances. f0: f(t,
    y), (n,).

    Each product costs one evaluation of f. It leaves out a component that is zero and has no atol,
    because it has no scale.
    """
    scale = tol.scale(y)
    safe_scale = tol.scale_or_inf(scale)
    size = math.sqrt(len(y)) + (y / safe_scale).norm().item()
    length = math.sqrt(torch.finfo(y.dtype).eps) * size

    def product(v):
        return (field(t, y + length * scale * v) - f0) / (length * safe_scale)

    return product
