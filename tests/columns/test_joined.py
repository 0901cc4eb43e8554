"""Several splits read as one."""

from __future__ import annotations

import numpy as np

from subgrid.columns import ColumnLoader


def test_joined_splits_give_every_row_of_each_once(tiny_store):
    joined = tiny_store.joined("validation", "test")
    parts = [tiny_store[name] for name in ("validation", "test")]
    assert joined.samples == sum(p.samples for p in parts)
    variables = tiny_store.variable_set("speedy")
    loader = ColumnLoader(joined, variables, batch_size=100, seed=3, buffer_blocks=2, drop_last=False)
    given = np.concatenate([inputs for inputs, _, _ in loader])
    held = np.concatenate([p.read_variables(variables.inputs, b) for p in parts for b in range(p.blocks)])
    np.testing.assert_array_equal(np.sort(given[:, 0]), np.sort(held[:, 0]))


def test_one_split_joined_is_itself(tiny_store):
    assert tiny_store.joined("train").name == "train"
