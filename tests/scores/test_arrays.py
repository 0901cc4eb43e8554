"""Sums over groups of rows, and numbers for JSON."""

import numpy as np

from subgrid.scores.arrays import RowGroups, constant, jsonable, ratio


def test_groups_sum_their_rows_in_any_order():
    rng = np.random.default_rng(0)
    group = np.array([7, 2, 2, 9, 7, 7])
    values = rng.standard_normal((6, 3))
    groups = RowGroups(group)
    assert groups.present.tolist() == [2, 7, 9] and groups.count.tolist() == [2, 3, 1]
    expected = [values[[1, 2]].sum(0), values[[0, 4, 5]].sum(0), values[3]]
    np.testing.assert_allclose(groups.sum(values), expected, rtol=1e-15)
    np.testing.assert_array_equal(groups.present[groups.index], group)


def test_a_value_that_is_not_finite_stays_in_its_group():
    sums = RowGroups(np.array([0, 1, 1])).sum(np.array([[1.0], [np.inf], [2.0]]))
    assert sums.ravel().tolist() == [1.0, np.inf]


def test_ratio_broadcasts_and_marks_what_is_empty():
    found = ratio(np.ones((2, 3)), np.array([[2.0], [0.0]]), empty=-1.0)
    assert found.tolist() == [[0.5, 0.5, 0.5], [-1.0, -1.0, -1.0]]


def test_what_varies_only_by_rounding_is_constant():
    count, mean = np.full(3, 100.0), np.array([0.0, 1.0, 1.0])
    assert constant(np.array([0.0, 1e-9, 1e-7]), count, mean).tolist() == [True, True, False]


def test_json_has_no_infinity():
    assert jsonable(np.array([[1.0, np.nan], [-np.inf, 2.0]])) == [[1.0, None], [None, 2.0]]
    assert jsonable("text") == "text" and jsonable(float("inf")) is None
