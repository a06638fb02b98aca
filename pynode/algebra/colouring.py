"""Columns that may share one product with the Jacobian: no row has an entry in two of them.

Curtis, Powell & Reid, IMA J. Appl. Math. 13 (1974); greedy, as in Coleman & More, SIAM J. Numer.
Anal. 20 (1983).
"""

from __future__ import annotations

import numpy as np


def colour_columns(rows: np.ndarray, cols: np.ndarray, columns: int) -> np.ndarray:
    """(columns,) the colour of each column of the pattern with entries (rows[k], cols[k]), in
    natural order.

    The colours taken in a row are the bits of one integer, so that no graph of columns is built:
    the cost is that of two passes over the entries, also where a row is dense.
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
