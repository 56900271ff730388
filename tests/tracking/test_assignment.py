import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vis_core.tracking import DROPPED, NEW, greedy_assign


def test_every_row_takes_its_best_column():
    scores = np.array([[5.0, 1, 2], [0, 3, 1], [0, 1, 4]])
    assert greedy_assign(scores) == [NEW, 1, 2]


def test_of_equal_columns_the_first_is_taken():
    assert greedy_assign(np.array([[1.0, 1, 1]])) == [NEW]
    assert greedy_assign(np.array([[0.0, 1, 1]])) == [1]


def test_a_worse_rival_is_dropped_and_a_better_one_shares():
    scores = np.array([[0.0, 5], [0, 3], [0, 7]])
    assert greedy_assign(scores) == [1, DROPPED, 1]
    assert greedy_assign(scores, one_to_one=True) == [DROPPED, DROPPED, 1]


def test_an_equal_rival_is_dropped():
    assert greedy_assign(np.array([[0.0, 5], [0, 5]])) == [1, DROPPED]


def test_a_match_must_exceed_the_minimum():
    scores = np.array([[-300.0, -200.0]])
    assert greedy_assign(scores) == [1]
    assert greedy_assign(scores, min_score=-200.0) == [DROPPED]


@pytest.mark.parametrize("columns", [1, 4])
def test_no_rows(columns):
    assert greedy_assign(np.zeros((0, columns))) == []


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (6, 4), elements=st.floats(-10, 10, width=32)), st.booleans())
def test_rules_hold_on_any_table(scores, one_to_one):
    columns = greedy_assign(scores, one_to_one=one_to_one)
    best = scores.argmax(axis=1)
    for row, column in enumerate(columns):
        assert column in (best[row], DROPPED)
        assert column != DROPPED or best[row] != NEW
    for column in set(best.tolist()) - {NEW}:
        rivals = np.flatnonzero(best == column)
        winner = rivals[scores[rivals, column].argmax()]
        assert columns[winner] == column
        if one_to_one:
            assert columns.count(column) == 1
