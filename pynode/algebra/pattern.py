"""The entries of a Jacobian that may be non-zero: given by the user, or detected by products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .colouring import colour_columns
from .products import Products

if TYPE_CHECKING:
    from ..core.vector_field import VectorField

BLOCKS = 32  # blocks of columns at the coarsest level of the detection
# With more entries, or more numbers in one batch of products, a pattern is not sparse.
LARGEST = 1 << 26


class Pattern:
    """rows, cols: (m,) int64 positions of the entries, each once, sorted by column. size: n."""

    def __init__(
        self, rows: np.ndarray | Sequence[int], cols: np.ndarray | Sequence[int], size: int
    ) -> None:
        keys = np.unique(np.asarray(cols, dtype=np.int64) * size + np.asarray(rows, dtype=np.int64))
        self.rows = keys % size
        self.cols = keys // size
        self.size = size

    @classmethod
    def of(cls, given: Any, n: int) -> Pattern:
        """Make a pattern from a scipy.sparse matrix, a sparse or dense tensor, or an array. A
        non-zero marks a possible entry."""
        shape = tuple(getattr(given, "shape", ()))
        if shape != (n, n):
            raise ValueError(
                f"the sparsity pattern of {n} states must be ({n}, {n}), not"
                f" {shape or type(given).__name__}"
            )
        if isinstance(given, torch.Tensor):
            if given.layout is not torch.strided:
                given = given.to_sparse_coo().coalesce()
                indices = given.indices()[:, given.values() != 0]
            else:
                indices = given.nonzero().T
            rows, cols = indices.cpu().numpy()
        elif hasattr(given, "tocoo"):
            coo = given.tocoo()
            rows = coo.row[coo.data != 0]
            cols = coo.col[coo.data != 0]
        else:
            rows, cols = np.nonzero(np.asarray(given))
        return cls(rows, cols, n)

    @classmethod
    def band(cls, n: int, lower: int, upper: int) -> Pattern:
        """The pattern of a band with this many diagonals below and above."""
        if n == 1:
            rows, cols = np.nonzero(np.ones((1, lower + upper + 1)))
        else:
            rows, cols = _band(n, lower, upper)
        return cls(rows, cols, n)

    def union(self, other: Pattern) -> Pattern:
        """The entries of both patterns."""
        return Pattern(
            np.concatenate((self.rows, other.rows)),
            np.concatenate((self.cols, other.cols)),
            self.size,
        )


def _band(n, lower, upper):
    offsets = np.arange(-upper, lower + 1)
    rows = np.arange(n)[:, None] + offsets
    cols = np.broadcast_to(np.arange(n)[:, None], rows.shape)
    inside = (rows >= 0) & (rows < n)
    return rows[inside], cols[inside]


def detect(field: VectorField, t: float, y: Tensor) -> Pattern:
    """Detect the pattern of df/dy at t near y, (n,). Multiply J with blocks of columns, and halve
    the blocks until each is one column.

    A block of columns with random weights touches a row if one of its columns does, except for a
    cancellation of probability zero. One product tests all blocks that share no row. With r entries
    in a row, the detection takes about r log(n) products instead of n. It uses three random points
    around y, because an entry may vanish at y. It misses an entry that vanishes in a whole
    neighbourhood, such as the other branch of a condition; the solver finds this entry when the
    solution comes there.
    """
    n = len(y)
    generator = np.random.default_rng(0)
    weights = torch.from_numpy(generator.uniform(0.5, 1.5, n)).to(y)
    points = _points(field, t, y, generator)
    width = 1
    while width * BLOCKS < n:
        width *= 2
    blocks = -(-n // width)
    rows = np.tile(np.arange(n), blocks)
    cols = np.repeat(np.arange(blocks), n)
    while True:
        colours = colour_columns(rows, cols, blocks)
        count = int(colours.max()) + 1
        if len(rows) > LARGEST or count * n > LARGEST:
            raise ValueError(
                f"the Jacobian of {n} states is not sparse: some row depends on more than"
                f" {count // 2} components; use jacobian='krylov', or give the pattern of a sparse"
                " approximation of f"
            )
        seeds = torch.zeros(count, n, dtype=y.dtype, device=y.device)
        columns = torch.arange(n, device=y.device)
        seeds[torch.from_numpy(colours).to(y.device)[columns // width], columns] = weights
        touched = np.zeros(len(rows), dtype=bool)
        for point in points:
            touched |= Products(field, t, point).jvps(seeds).cpu().numpy()[colours[cols], rows] != 0
        rows = rows[touched]
        cols = cols[touched]
        if width == 1:
            return Pattern(rows, cols, n)
        blocks = -(-n // (width // 2))
        width = width // 2
        rows = np.repeat(rows, 2)
        cols = np.stack((2 * cols, 2 * cols + 1), 1).ravel()
        rows = rows[cols < blocks]
        cols = cols[cols < blocks]


def _points(field, t, y, generator):
    """States around y where f is finite; y itself if there are none. Signs stay, zeros become
    positive."""
    size = float(y.abs().max()) or 1.0
    points = []
    for spread in (0.01, 0.1, 0.5):
        random = torch.from_numpy(generator.uniform(0.1, 1.0, len(y))).to(y)
        point = torch.where(y == 0, spread * size * random, y * (1 + spread * random))
        with torch.no_grad():
            if bool(torch.isfinite(field(t, point)).all()):
                points.append(point)
    return points or [y]
