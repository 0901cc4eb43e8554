"""The fifth place's networks: family A is the encoder-decoder LSTM, family B by hand from its parts."""

import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.networks import NetworkShape, build

SHAPE = NetworkShape(6, 3, 2, 4, 5)


def elu(x):
    return torch.where(x > 0, x, torch.expm1(x))


def made(**overrides):
    torch.manual_seed(0)
    network = build("fifth_place_b", SHAPE, **overrides).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("pool", ["attention", "mean"])
def test_family_b_by_hand(pool):
    network = made(pool=pool)
    p, s = torch.randn(7, 6, 3), torch.randn(7, 2)
    x = torch.cat([p, s[:, None].repeat(1, 6, 1)], dim=2)
    head = network.heads[0]
    with torch.no_grad():
        e = elu(network.embedding(x / 5))
        y = network.lstm(e / 5)
        column = y.mean(1, keepdim=True).repeat(1, 6, 1)
        padded = torch.cat([torch.zeros(7, 1, y.shape[2]), y, torch.zeros(7, 1, y.shape[2])], dim=1)
        around = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
        z = elu(network.inner(torch.cat([y, column, around, e], dim=2) / 5))
        line, scale = head.profiles
        wanted = line(z) * scale.scale / 3 + scale.bias / 3
        first, _, second, last = head.scalars
        if pool == "attention":
            score = torch.exp(head.pool.score(z))
            pooled = (score / score.sum(1, keepdim=True) * z).sum(1)
        else:
            pooled = z.mean(1)
        wanted_scalars = second(elu(first(pooled))) * last.scale / 3 + last.bias / 3
        found = network(p, s)
    torch.testing.assert_close(found[0], wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], wanted_scalars, rtol=1e-4, atol=1e-5)


def test_family_a_is_the_encoder_decoder_lstm():
    torch.manual_seed(0)
    ours = build("fifth_place_a", SHAPE)
    torch.manual_seed(0)
    theirs = build("encdec_lstm", SHAPE)
    inputs = torch.randn(3, 6, 3), torch.randn(3, 2)
    assert ours.architecture == "fifth_place_a"
    for a, b in zip(ours(*inputs), theirs(*inputs), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"pool": "man"}, "mean"), ({"layers": 0}, "layers"), ({"hidden": 0}, "hidden"), ({"dropout": 1.0}, "dropout")],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(UsageError, match=message):
        build("fifth_place_b", SHAPE, **settings)
