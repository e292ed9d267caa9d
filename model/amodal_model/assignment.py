"""The assignment problem, solved exactly: who gets what so that the sum of the gains is largest.

Frames hold few objects, and most pairs of them are out of the question: the pairs that are not
fall into groups of a handful, and each group is a small dense problem.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int64


def assign(gains: Float64[np.ndarray, "M N"]) -> list[tuple[int, int]]:
    """Return the (row, column) pairs of the largest sum of gains, each row and column once at most.

    Args:
        gains: finite; a pair of gain 0 or less is never made.

    Returns:
        The pairs by ascending row; among equal sums always the same ones.

    >>> assign(np.array([[0.9, 0.8], [0.7, 0.1]]))
    [(0, 1), (1, 0)]
    """
    pairs = []
    for rows, columns in _groups(gains > 0):
        block = np.maximum(gains[np.ix_(rows, columns)], 0)
        is_wide = len(rows) <= len(columns)
        chosen = _assign_rows(-block if is_wide else -block.T)
        for one, other in enumerate(chosen.tolist()):
            row, column = (one, other) if is_wide else (other, one)
            if block[row, column] > 0:
                pairs.append((int(rows[row]), int(columns[column])))
    return sorted(pairs)


def _groups(
    allowed: Bool[np.ndarray, "M N"],
) -> Iterator[tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " n"]]]:
    """Yield the rows and columns of each group that allowed pairs connect."""
    left = np.asarray(allowed.any(1))
    while left.any():
        rows = np.zeros(len(allowed), bool)
        rows[np.argmax(left)] = True
        while True:
            columns = allowed[rows].any(0)
            grown = np.asarray(allowed[:, columns].any(1))
            if (grown == rows).all():
                break
            rows = grown
        left = left & ~rows
        yield np.flatnonzero(rows), np.flatnonzero(columns)


def _assign_rows(costs: Float64[np.ndarray, "m n"]) -> Int64[np.ndarray, " m"]:
    """Return the column of each row at the least sum of costs; ``m <= n``.

    Rows are added one by one, each along the shortest augmenting path under reduced costs.
    O(m² n), the innermost loop is an array operation.

    Source: R. Jonker and A. Volgenant, A shortest augmenting path algorithm for dense and sparse
    linear assignment problems, Computing 38, 1987, section 2 (the augmentation; no initial
    reduction).
    """
    m, n = costs.shape
    row_price, column_price = np.zeros(m), np.zeros(n)
    row_of = np.full(n, -1)
    for start in range(m):
        shortest, before = np.full(n, np.inf), np.full(n, -1)
        is_done = np.zeros(n, bool)
        row, length, last = start, 0.0, -1
        while row >= 0:
            reduced = costs[row] - row_price[row] - column_price + length
            is_better = ~is_done & (reduced < shortest)
            shortest[is_better], before[is_better] = reduced[is_better], last
            last = int(np.argmin(np.where(is_done, np.inf, shortest)))
            length, row = float(shortest[last]), int(row_of[last])
            is_done[last] = True
        row_price[start] += length
        passed = np.flatnonzero(is_done & (row_of >= 0))
        row_price[row_of[passed]] += length - shortest[passed]
        column_price[is_done] += shortest[is_done] - length
        while last >= 0:
            previous = int(before[last])
            row_of[last] = start if previous < 0 else row_of[previous]
            last = previous
    taken = np.flatnonzero(row_of >= 0)
    chosen = np.empty(m, np.int64)
    chosen[row_of[taken]] = taken
    return chosen
