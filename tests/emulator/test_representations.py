"""Three representations of a profile: equal to their formulas on raw values, in the published order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.representations import MultiRepresentation, build_representations, represented
from subgrid.emulator.transforms import ChannelRange, Standardise

LEVELS = 5
NAMES = ["temperature", "liquid_partition", "u_wind"]


@pytest.fixture(scope="module")
def raw():
    generator = np.random.default_rng(0)
    level = np.arange(LEVELS)[:, None]
    centre = np.concatenate([220.0 + 15.0 * level, 0.2 * level, -20.0 + 6.0 * level], axis=1)
    return centre + np.array([4.0, 0.05, 9.0]) * generator.standard_normal((400, LEVELS, 3))


def fitted(raw, paper_compatible=False):
    empty = np.zeros(0)
    found = ChannelRange(*((part, empty) for part in (raw.mean(0), raw.std(0), raw.min(0), raw.max(0))))
    single, multi = Standardise(LEVELS, 3, 0), MultiRepresentation(LEVELS, NAMES)
    single.fill(found)
    multi.fill(found, paper_compatible)
    x = torch.from_numpy(raw).float()
    return multi(single(x, torch.zeros(len(x), 0))[0]).numpy()


def test_each_representation_is_its_formula_on_raw_values(raw):
    found = fitted(raw)
    x1 = (raw - raw.mean(0)) / raw.std(0)
    assert found.shape == (400, LEVELS, 3 + 2 + 2)
    np.testing.assert_allclose(found[..., :3], x1, atol=2e-4)
    twice = raw[..., [0, 2]]
    np.testing.assert_allclose(found[..., 3:5], (twice - twice.mean((0, 1))) / twice.std((0, 1)), atol=2e-4)
    above = x1[..., [0, 2]] - x1[..., [0, 2]].min(0)
    np.testing.assert_allclose(found[..., 5:], np.log1p(above), atol=2e-4)
    assert (found[..., 5:] >= -1e-4).all()


def test_a_value_below_the_training_range_keeps_its_sign(raw):
    empty = np.zeros(0)
    multi = MultiRepresentation(LEVELS, NAMES)
    multi.fill(ChannelRange(*((part, empty) for part in (raw.mean(0), raw.std(0), raw.min(0), raw.max(0)))))
    low = torch.from_numpy((raw.min(0) - raw.mean(0)) / raw.std(0)).float()[None] - 2.0
    np.testing.assert_allclose(multi(low)[0, :, 5:].numpy(), -np.log1p(2.0), atol=1e-4)


def test_paper_compatible_divides_the_offset_by_the_mean(raw):
    found = fitted(raw, paper_compatible=True)[..., 5:]
    x1 = ((raw - raw.mean(0)) / raw.std(0))[..., [0, 2]]
    offset = ((raw - raw.mean(0)) / raw.mean(0))[..., [0, 2]].min(0)
    np.testing.assert_allclose(found, np.sign(x1 - offset) * np.log1p(np.abs(x1 - offset)), atol=5e-4)


def test_the_network_reads_25_profiles_of_the_nine(raw):
    names = ["temperature", "relative_humidity", "cloud_water", "liquid_partition", "u_wind", "v_wind", "a", "b", "c"]
    assert represented(EmulatorConfig(representation="multi"), names) == 25
    assert represented(EmulatorConfig(), names) == 9
    plain = torch.randn(2, LEVELS, 3)
    assert build_representations(EmulatorConfig(), LEVELS, NAMES)(plain) is plain
