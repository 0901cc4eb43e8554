"""Transforms fitted on the training split equal plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.emulator.flat import flatten, unflatten
from subgrid.training.statistics import feature_statistics, split_channels


def test_split_channels_is_the_layout_of_unflatten():
    values = np.arange(3 * 4 + 2, dtype=np.float64)
    p, s = split_channels(values, 3, 4)
    q, t = unflatten(torch.from_numpy(values)[None], 3, 4)
    np.testing.assert_array_equal(p, q[0].numpy())
    np.testing.assert_array_equal(s, t[0].numpy())


@pytest.mark.parametrize("variables", ["speedy", "speedy_expanded"])
def test_fitted_transforms_equal_numpy(make_emulator, split_rows, tiny_store, variables):
    emulator = make_emulator(variables=variables)
    train, held = tiny_store["train"], emulator.variables
    x, y = (
        np.concatenate([train.read_variables(v, b) for b in range(train.blocks)]) for v in (held.inputs, held.targets)
    )
    np.testing.assert_array_equal(y, split_rows["train"]["targets"])
    n = len(emulator.features.profile_names)
    with torch.inference_mode():
        features = flatten(*emulator.features(*unflatten(torch.from_numpy(x), n, 8))).double().numpy()
    for transform, values, profiles in (
        (emulator.inputs, features, emulator.network.shape.profiles_in),
        (emulator.outputs, y.astype(np.float64), 4),
    ):
        mean, std = values.mean(0), values.std(0)
        live = std > 1e-5 * np.abs(mean)
        inverse = np.where(live, 1.0 / np.where(live, std, 1.0), 0.0)
        wanted = {
            "mean": mean,
            "std": np.where(live, std, 0.0),
            "inverse": inverse,
            "low": (values.min(0) - mean) * inverse,
            "high": (values.max(0) - mean) * inverse,
        }
        for name, flat in wanted.items():
            for kind, part in zip(("profile", "scalar"), split_channels(flat, profiles, 8), strict=True):
                found = transform.get_buffer(f"{kind}_{name}").numpy()
                np.testing.assert_allclose(found, part.astype(np.float32), rtol=3e-6, atol=1e-12 * np.abs(part).max())


def test_feature_statistics_count_every_row(tiny_emulator, tiny_store):
    found = feature_statistics(tiny_emulator, tiny_store["train"])
    assert found.count == 3000
    assert len(found.mean) == 5 * 8 + 13
