"""Where a Jacobian may be non-zero: given, or detected by products with it."""

from __future__ import annotations

import numpy as np
import torch

from .colouring import colour_columns
from .products import Products

BLOCKS = 32  # blocks of columns at the coarsest level of the detection
# Entries, or numbers in one batch of products, beyond which a pattern is not sparse.
LARGEST = 1 << 26


class Pattern:
    """rows, cols: (m,) int64 positions of the entries, in the order of columns, each once; size:
    n."""

    def __init__(self, rows, cols, size: int):
        keys = np.unique(np.asarray(cols, dtype=np.int64) * size + np.asarray(rows, dtype=np.int64))
        self.rows = keys % size
        self.cols = keys // size
        self.size = size

    @classmethod
    def of(cls, given, n: int):
        """From a scipy.sparse matrix, a sparse or dense tensor, or an array, non-zero where there
        may be an entry."""
        shape = tuple(getattr(given, "shape", ()))
        if shape != (n, n):
            raise ValueError(
                f"the sparsity pattern of {n} states must be ({n}, {n}), not"
                f" {shape or type(given).__name__}"
            )
        if isinstance(given, torch.Tensor):
            if given.layout is not torch.strided:
                given = given.to_sparse_coo().coalesce()
                kept = given.indices()[:, given.values() != 0]
            else:
                kept = given.nonzero().T
            rows, cols = kept.cpu().numpy()
        elif hasattr(given, "tocoo"):
            coo = given.tocoo()
            rows = coo.row[coo.data != 0]
            cols = coo.col[coo.data != 0]
        else:
            rows, cols = np.nonzero(np.asarray(given))
        return cls(rows, cols, n)

    @classmethod
    def band(cls, n: int, lower: int, upper: int):
        if n == 1:
            rows, cols = np.nonzero(np.ones((1, lower + upper + 1)))
        else:
            rows, cols = _band(n, lower, upper)
        return cls(rows, cols, n)

    def union(self, other):
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


def detect(field, t: float, y) -> Pattern:
    """The pattern of df/dy at t near y, (n,), from products of J with blocks of columns that are
    halved until each is one.

    A block of columns with random weights touches a row if and only if one of its columns does, up
    to a cancellation of probability zero; blocks that share no row are tried in one product. Of r
    entries a row it takes of the order of r log(n) products, not n. Taken at three random points
    around y, because an entry may vanish at y itself; what vanishes in a whole neighbourhood, such
    as the other branch of a condition, is found only when the solution comes there.
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
    """States around y, signs kept, zeros made positive; those where f is finite, else y itself."""
    size = float(y.abs().max()) or 1.0
    found = []
    for spread in (0.01, 0.1, 0.5):
        random = torch.from_numpy(generator.uniform(0.1, 1.0, len(y))).to(y)
        point = torch.where(y == 0, spread * size * random, y * (1 + spread * random))
        with torch.no_grad():
            if bool(torch.isfinite(field(t, point)).all()):
                found.append(point)
    return found or [y]
