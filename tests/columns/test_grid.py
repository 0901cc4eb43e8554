"""The columns' grid: exact round trip through JSON, refusal of what is not a grid."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from subgrid.base.errors import SubgridError
from subgrid.columns import ColumnGrid


def test_round_trip_through_json_is_exact(column_grid):
    again = ColumnGrid.from_dict(json.loads(json.dumps(column_grid.to_dict())))
    for name in ("latitude", "longitude", "area"):
        np.testing.assert_array_equal(getattr(again, name), getattr(column_grid, name))
        assert getattr(again, name).dtype == np.float64
    assert again.vertical == column_grid.vertical
    assert again.shape == (4, 4)
    assert ColumnGrid.from_dict(replace(column_grid, shape=None).to_dict()).shape is None


def test_sizes(column_grid):
    assert (column_grid.columns, column_grid.levels) == (16, 8)


@pytest.mark.parametrize("area", [0.0, -1.0, np.nan, np.inf])
def test_areas_must_be_finite_and_positive(column_grid, area):
    bad = column_grid.area.copy()
    bad[3] = area
    with pytest.raises(SubgridError, match="areas must be finite and positive"):
        replace(column_grid, area=bad)


def test_lengths_and_shape_must_fit(column_grid):
    with pytest.raises(SubgridError, match="1-D of one length"):
        replace(column_grid, latitude=column_grid.latitude[:-1])
    with pytest.raises(SubgridError, match=r"shape \(3, 4\) does not hold 16 columns"):
        replace(column_grid, shape=(3, 4))


@pytest.mark.parametrize("key", ["latitude", "vertical"])
@pytest.mark.parametrize("value", [None, "x", {"hyai": 3}])
def test_malformed_descriptions_are_refused(column_grid, key, value):
    with pytest.raises(SubgridError):
        ColumnGrid.from_dict({**column_grid.to_dict(), key: value})
    broken = column_grid.to_dict()
    del broken[key]
    with pytest.raises(SubgridError, match="malformed grid description"):
        ColumnGrid.from_dict(broken)
