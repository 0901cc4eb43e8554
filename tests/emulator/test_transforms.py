"""Normalisation: there and back, constant channels, and the training range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError
from subgrid.emulator.transforms import ChannelRange, Standardise, inverse_spread

LEVELS, PROFILES, SCALARS = 4, 3, 2


def of(values):
    """Exact statistics of (n, level, P) and (n, S)."""
    return ChannelRange(
        *(tuple(f(v.astype(np.float64), axis=0) for v in values) for f in (np.mean, np.std, np.min, np.max))
    )


@pytest.fixture(scope="module")
def values():
    """Columns whose profile 1 is constant on level 2 and whose scalar 1 is constant everywhere."""
    rng = np.random.default_rng(1)
    p = rng.standard_normal((500, LEVELS, PROFILES)) * np.array([10.0, 1e-5, 1e-20]) + np.array([250.0, 0.0, 3e-20])
    s = rng.standard_normal((500, SCALARS)) + 5.0
    p, s = p.astype(np.float32), s.astype(np.float32)
    p[:, 2, 1], s[:, 1] = 0.0, 273.16
    return p, s


@pytest.fixture(scope="module")
def transform(values):
    made = Standardise(LEVELS, PROFILES, SCALARS)
    made.fill(of(values))
    return made


@pytest.fixture(scope="module")
def tensors(values):
    return tuple(torch.from_numpy(v) for v in values)


def test_normalised_training_data_have_mean_0_and_spread_1(transform, tensors):
    for part in transform(*tensors):
        mean, std = part.double().mean(0), part.double().std(0, correction=0)
        assert mean.abs().max() < 1e-4
        assert ((std - 1.0).abs() < 1e-4).logical_or(std == 0).all()


def test_there_and_back(transform, tensors, values):
    back = transform.inverse(*transform(*tensors))
    for found, wanted in zip(back, values, strict=True):
        spread = wanted.astype(np.float64).std(0) + 1e-6 * np.abs(wanted).max(0)
        assert (np.abs(found.numpy() - wanted) / np.where(spread > 0, spread, 1.0)).max() < 1e-4


def test_constant_channels_give_0_and_come_back_as_their_mean(transform, tensors):
    p, s = transform(*tensors)
    assert (p[:, 2, 1] == 0).all() and (s[:, 1] == 0).all()
    far = transform(torch.full_like(tensors[0], 1e9), torch.full_like(tensors[1], -1e9))
    assert (far[0][:, 2, 1] == 0).all() and (far[1][:, 1] == 0).all()
    p, s = transform.inverse(torch.full_like(p, 17.0), torch.full_like(s, 17.0))
    assert (p[:, 2, 1] == 0.0).all()
    assert (s[:, 1] == torch.tensor(273.16)).all()


@pytest.mark.parametrize(
    ("mean", "std", "constant"),
    [(1.0, 0.99e-5, True), (1.0, 1.01e-5, False), (-1.0, 0.99e-5, True), (0.0, 0.0, True), (0.0, 1e-20, False)],
)
def test_a_channel_is_constant_below_1e_5_of_its_mean(mean, std, constant):
    inverse = inverse_spread(np.array([mean]), np.array([std]))[0]
    assert inverse == (0.0 if constant else pytest.approx(1.0 / std))


def test_a_spread_below_what_float32_can_invert_counts_as_constant():
    transform = Standardise(1, 1, 1)
    tiny = np.array([[1e-41]])
    transform.fill(ChannelRange((tiny, tiny[0]), (tiny, tiny[0]), (0 * tiny, 0 * tiny[0]), (tiny, tiny[0])))
    assert torch.isfinite(torch.cat([b.flatten() for b in transform.buffers()])).all()
    assert torch.isfinite(transform(torch.zeros(1, 1, 1), torch.zeros(1, 1))[0]).all()


def test_training_data_are_inside_the_training_range(transform, tensors):
    *clipped, outside = transform.clip(*transform(*tensors))
    assert (outside == 0).all()
    for found, wanted in zip(clipped, transform(*tensors), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_clip_counts_the_share_of_live_channels_outside(transform, tensors):
    p, s = (part[:3].clone() for part in transform(*tensors))
    live = LEVELS * PROFILES + SCALARS - 2
    p[1, 0, 0] = 100.0
    p[1, 3, 2] = -100.0
    s[1, 0] = 100.0
    p[2, 2, 1] = 100.0  # a constant channel does not count
    found_p, found_s, outside = transform.clip(p, s)
    np.testing.assert_allclose(outside.numpy(), [0.0, 3.0 / live, 0.0])
    assert found_p[1, 0, 0] == transform.profile_high[0, 0]
    assert found_p[1, 3, 2] == transform.profile_low[3, 2]
    assert found_s[1, 0] == transform.scalar_high[0]
    assert found_p[2, 2, 1] == 0.0


def test_a_margin_widens_the_range_on_both_sides(transform, tensors):
    p, s = (part[:1].clone() for part in transform(*tensors))
    low, high = transform.scalar_low[0], transform.scalar_high[0]
    for value, wanted in ((high + 100.0, high + 0.25 * (high - low)), (low - 100.0, low - 0.25 * (high - low))):
        s[0, 0] = value
        found = transform.clip(p, s, margin=0.25)
        torch.testing.assert_close(found[1][0, 0], wanted)
    s[0, 0] = high + 0.2 * (high - low)
    assert transform.clip(p, s, margin=0.25)[2] == 0.0


def test_wrong_shapes_and_nan_statistics_are_refused(values):
    made = Standardise(LEVELS, PROFILES + 1, SCALARS)
    with pytest.raises(SubgridError, match=r"profile statistics have shape \(4, 3\), expected \(4, 4\)"):
        made.fill(of(values))
    p, s = (v.copy() for v in values)
    s[0, 0] = np.nan
    with pytest.raises(SubgridError, match="scalar statistics hold NaN"):
        Standardise(LEVELS, PROFILES, SCALARS).fill(of((p, s)))
