"""Networks that give a distribution: their losses by hand, their samples, their means."""

from __future__ import annotations

import math

import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.networks import NetworkShape, build
from subgrid.networks.columns import joined
from subgrid.networks.probabilistic import column_noise

NAMES = ["cvae", "hsr", "rpn"]
SHAPE = NetworkShape(8, 3, 4, 2, 3)


def made(name, **settings):
    torch.manual_seed(0)
    network = build(name, SHAPE, **settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def columns(n, shape=SHAPE):
    generator = torch.Generator().manual_seed(5)
    sizes = ((n, 8, 3), (n, 4), (n, 8, 2), (n, 3))
    return [torch.randn(*size, generator=generator) for size in sizes]


def draws(network, inputs, members, seed=0):
    with torch.no_grad():
        return network.sample(*inputs, members, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_the_mean_of_the_samples(name):
    network, (profiles, scalars, *_) = made(name), columns(4)
    sampled = draws(network, (profiles, scalars), 8 if name == "rpn" else 20000)
    assert sampled[0].shape[1:] == (4, 8, 2) and sampled[1].shape[1:] == (4, 3)
    with torch.no_grad():
        mean = network(profiles, scalars)
    # the cvae's mean is exact for quadratic decoders, which a network of ReLU is not
    for found, wanted in zip(sampled, mean, strict=True):
        error = found.std(0) / math.sqrt(len(found)) * 5 + (0.05 * found.std(0) if name == "cvae" else 1e-6)
        assert ((found.mean(0) - wanted).abs() <= error).all()


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_their_seed_and_differ(name):
    network, (profiles, scalars, *_) = made(name), columns(3)
    first, same, other = (draws(network, (profiles, scalars), 4, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_seeded_member_is_a_deterministic_network(name):
    network, (profiles, scalars, *_) = made(name), columns(5)
    with torch.no_grad():
        first, again, other = (network.member(profiles, scalars, seed) for seed in (0, 0, 1))
        alone = network.member(profiles[2:3], scalars[2:3], 0)
        mean = network(profiles, scalars)
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    torch.testing.assert_close(first[0][2:3], alone[0])
    assert first[0].shape == mean[0].shape and first[1].shape == mean[1].shape
    assert not torch.allclose(first[0], mean[0])


def test_hsr_learns_the_mean_first_and_then_the_density():
    network, (profiles, scalars, tp, ts) = made("hsr"), columns(6)
    truth = joined(tp, ts).double()
    mean, log_precision = (x.double() for x in network.distribution(profiles, scalars))
    network.progress = 0.2
    early = joined(*network.losses(profiles, scalars, tp, ts)).double()
    torch.testing.assert_close(early, (truth - mean).square(), rtol=1e-4, atol=1e-5)
    network.progress = 0.4
    late = joined(*network.losses(profiles, scalars, tp, ts)).double()
    density = torch.distributions.Normal(mean, (-0.5 * log_precision).exp())
    wanted = -2.0 * density.log_prob(truth) - math.log(2 * math.pi)
    torch.testing.assert_close(late, wanted, rtol=1e-4, atol=1e-4)


def test_cvae_adds_the_gaussian_divergence():
    network, (profiles, scalars, tp, ts) = made("cvae"), columns(6)
    truth, column = joined(tp, ts), joined(profiles, scalars)
    centre, log_std = network.encoder(torch.cat([truth, column], 1)).chunk(2, 1)
    torch.manual_seed(9)
    z = centre + log_std.exp() * torch.randn_like(centre)
    mean, std = network.decoded(z, column)
    likelihood = -torch.distributions.Normal(mean, std).log_prob(truth) - 0.5 * math.log(2 * math.pi)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(centre, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(1, keepdim=True)
    torch.manual_seed(9)
    found = joined(*network.losses(profiles, scalars, tp, ts))
    torch.testing.assert_close(found, likelihood + 0.01 * divergence, rtol=1e-4, atol=1e-4)


def test_rpn_members_learn_from_their_own_share_of_the_columns():
    network, (profiles, scalars, tp, ts) = made("rpn"), columns(4000)
    before = [p.clone() for p in network.fixed.parameters()]
    far = (tp + 1e4, ts + 1e4)  # all members are as wrong
    with torch.no_grad():
        loss = joined(*network.losses(profiles, scalars, *far)) / joined(*far).square()
        again = joined(*network.losses(profiles, scalars, *far)) / joined(*far).square()
    assert torch.equal(loss, again)  # a column is in the same shares whenever it comes
    counts = loss.mean(1) * 8 * 0.8
    assert ((counts - counts.round()).abs() < 0.02).all()
    assert counts.mean() == pytest.approx(6.4, abs=0.1) and counts.std() == pytest.approx(
        (8 * 0.8 * 0.2) ** 0.5, abs=0.1
    )
    sum(x.sum() for x in network.losses(profiles, scalars, tp, ts)).backward()
    assert all((p.grad.flatten(1).abs().sum(1) > 0).all() for p in network.trained.parameters())
    assert all(p.grad is None for p in network.fixed.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, network.fixed.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_second_head_is_refused_by_the_recipe_that_asks_for_it(name):
    with pytest.raises(UsageError, match="recipe confidence"):
        build(name, NetworkShape(8, 3, 4, 2, 3, heads=2))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hsr", {"widths": [0]}),
        ("hsr", {"dropout": 1.0}),
        ("cvae", {"latent": 0}),
        ("cvae", {"beta": -1.0}),
        ("rpn", {"members": 1}),
        ("rpn", {"share": 0.0}),
        ("cnn", {"kernel": 0}),
        ("ed", {"widths": [70000]}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, settings):
    with pytest.raises(UsageError, match=rf"{name}\.{next(iter(settings))}"):
        build(name, SHAPE, **settings)


def test_the_noise_of_columns_is_normal_and_theirs_alone():
    column = torch.randn(20000, 12, generator=torch.Generator().manual_seed(0))
    noise = column_noise(column, 5, seed=3)
    torch.testing.assert_close(noise[7:9], column_noise(column[7:9].clone(), 5, seed=3))
    assert noise.mean(0).abs().max() < 0.04 and (noise.std(0) - 1).abs().max() < 0.03
    assert torch.corrcoef(noise.T).fill_diagonal_(0.0).abs().max() < 0.04
    assert (noise.abs() > 2).float().mean() == pytest.approx(0.0455, abs=0.006)
    near = column_noise(column + 1e-4, 5, seed=3)
    assert torch.corrcoef(torch.stack([noise[:, 0], near[:, 0]]))[0, 1].abs() < 0.1
    assert torch.isfinite(column_noise(torch.zeros(2, 12), 5, seed=0)).all()
