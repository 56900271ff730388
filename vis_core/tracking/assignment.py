"""Who is who: from match scores to decisions.

Shapes: N current objects, M objects in memory.
"""

from __future__ import annotations

import numpy as np

NEW = 0
DROPPED = -1


def greedy_assign(scores: np.ndarray, min_score: float = -1e6, one_to_one: bool = False) -> list[int]:
    """Give every row its best column; a column that two rows want goes to the better one.

    Rows are served in order. A row whose column is already held with at least its own score is dropped. A row that
    beats the holder gets the column too; the holder keeps it as well unless ``one_to_one``, which drops the holder.

    Args:
        scores: (N, 1 + M) float; column 0 is "a new object", which any number of rows may choose.
        min_score: what a row must exceed to get a column that nobody holds yet.
        one_to_one: every column from 1 on goes to at most one row.

    Returns:
        N column indices; ``NEW`` (0) for a new object, ``DROPPED`` (-1) for a row that lost its column.
    """
    columns = scores.argmax(axis=1).tolist()  # the first of equals
    best = [min_score] * scores.shape[1]
    holder: list[int | None] = [None] * scores.shape[1]
    for row, column in enumerate(columns):
        if column == NEW:
            continue
        score = scores[row, column]
        if not score > best[column]:
            columns[row] = DROPPED
            continue
        if one_to_one and holder[column] is not None:
            columns[holder[column]] = DROPPED
        best[column], holder[column] = score, row
    return columns
