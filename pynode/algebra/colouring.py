"""Columns that can share one product with the Jacobian, because no row has entries in two of them.

Curtis, Powell & Reid, IMA J. Appl. Math. 13 (1974). The greedy method of Coleman & More, SIAM J.
Numer. Anal. 20 (1983).
"""

from __future__ import annotations

import numpy as np


def colour_columns(rows: np.ndarray, cols: np.ndarray, columns: int) -> np.ndarray:
    """Return the colour of each column, (columns,), in natural order. The pattern has the entries
    (rows[k], cols[k]).

    One integer holds the colours used in a row, one bit for each. The function builds no graph of
    columns. It costs two passes over the entries, even if a row is dense.
    """
    order = np.argsort(cols, kind="stable")
    starts = np.searchsorted(cols[order], np.arange(columns + 1)).tolist()
    rows = rows[order].tolist()
    taken = [0] * (max(rows, default=-1) + 1)
    colours = np.zeros(columns, dtype=np.int64)
    for j in range(columns):
        mine = rows[starts[j] : starts[j + 1]]
        mask = 0
        for i in mine:
            mask |= taken[i]
        bit = ~mask & (mask + 1)
        for i in mine:
            taken[i] |= bit
        colours[j] = bit.bit_length() - 1
    return colours
