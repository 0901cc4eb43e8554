import pytest
import torch
from torch.nn import functional as F

from subgrid.base.errors import UsageError
from subgrid.networks import NetworkShape, build
from subgrid.networks.unet import UNetConfig, _Attention, _Block, _Double, _group_norm, _Halve


def randomised(module):
    """The module in double precision, with random weights everywhere."""
    torch.manual_seed(0)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return module


def maps(*sizes):
    return torch.randn(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("profiles_in", "scalars_in", "published"),
    [(9, 17, 12_975_373), (25, 17, 12_981_517), (23, 19, 12_981_517)],
    ids=["default", "multirep", "v6"],
)
def test_paper_size_has_the_published_number_of_trainable_parameters(profiles_in, scalars_in, published):
    network = build("unet", NetworkShape(60, profiles_in, scalars_in, 5, 8), "paper")
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == published


def test_frozen_identities_left_out_are_as_many_as_published():
    kept = []
    network = build("unet", NetworkShape(60, 9, 17, 5, 8), "paper").eval()
    for part in network.down:
        part.register_forward_hook(lambda _, __, output: kept.append((output.shape[1], output.shape[3])))
    with torch.no_grad():
        network(*network.shape.zeros(1))
    assert kept == [(128, 64)] * 3 + [(128, 32)] + [(256, 32)] * 2 + [(256, 16)] * 3 + [(256, 8)] * 3
    assert sum(channels * channels + channels for channels, _ in kept) == 592_384


def test_paper_size_has_the_published_parts():
    network = build("unet", NetworkShape(60, 9, 17, 5, 8), "paper")
    attentions = [name for name, part in network.named_modules() if isinstance(part, _Attention)]
    assert attentions == ["up.0.enter.0.attention"]
    norms = [part for part in network.modules() if isinstance(part, torch.nn.GroupNorm)]
    assert {(norm.num_groups, norm.eps) for norm in norms} == {(32, 1e-6)}
    assert network.padding == 4
    assert network.hyperparameters["positive_scalars"] is True


def test_first_weights_are_xavier_uniform_and_nearly_zero_where_published():
    torch.manual_seed(0)
    network = build("unet", NetworkShape(60, 9, 17, 5, 8), "paper")
    block = network.up[0].enter[0]
    bound = (6 / (3 * 256 + 3 * 256)) ** 0.5
    assert block.convolution1.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert block.convolution2.weight.abs().max().item() == pytest.approx(1e-5 * bound, rel=1e-3)
    assert network.heads[0].convolution.weight.abs().max().item() < 1e-5 * (6 / (3 * 128 + 3 * 13)) ** 0.5
    assert block.convolution1.bias.abs().max().item() == 0


def test_block_follows_its_equation():
    config = UNetConfig(channels=8)
    block = randomised(_Block(8, 12, config, _Halve()))
    x = maps(3, 8, 10)

    def norm(part, y):
        return F.group_norm(y, part.num_groups, part.weight, part.bias, 1e-6)

    def convolve(part, y):
        return F.conv1d(y, part.weight[:, :, 0], part.bias, padding="same")

    halved = (x[:, :, ::2] + x[:, :, 1::2]) / 2
    y = F.silu(norm(block.norm1, x))
    y = convolve(block.convolution1, (y[:, :, ::2] + y[:, :, 1::2]) / 2)
    y = convolve(block.convolution2, norm(block.norm2, y))
    expected = (y + convolve(block.skip, halved)) / 2**0.5
    torch.testing.assert_close(block(x.unsqueeze(2)).squeeze(2), expected)


def test_attention_follows_its_equation():
    attention = randomised(_Attention(8, UNetConfig(channels=8)))
    x = maps(3, 8, 1, 5)
    normed = F.group_norm(x, 2, attention.norm.weight, attention.norm.bias, 1e-6).squeeze(2)
    weight, bias = attention.query_key_value.weight[:, :, 0, 0], attention.query_key_value.bias
    q, k, v = F.linear(normed.transpose(1, 2), weight, bias).chunk(3, dim=-1)
    mixed = F.scaled_dot_product_attention(q, k, v)
    projected = F.linear(mixed, attention.project.weight[:, :, 0, 0], attention.project.bias)
    expected = (x.squeeze(2) + projected.transpose(1, 2)) / 2**0.5
    torch.testing.assert_close(attention(x).squeeze(2), expected)


def test_halving_means_pairs_and_doubling_repeats():
    x = torch.tensor([[[[1.0, 3.0, 5.0, 9.0]]]])
    assert _Halve()(x).flatten().tolist() == [2.0, 7.0]
    assert _Double()(x).flatten().tolist() == [1.0, 1.0, 3.0, 3.0, 5.0, 5.0, 9.0, 9.0]


@pytest.mark.parametrize(
    ("channels", "least", "groups"),
    [(128, 4, 32), (512, 4, 32), (32, 4, 8), (36, 4, 9), (144, 4, 24), (20, 8, 2)],
)
def test_groups_divide_the_channels(channels, least, groups):
    assert _group_norm(channels, UNetConfig(group_channels=least)).num_groups == groups


def test_odd_columns_are_padded_with_zeros_at_the_top():
    padded = randomised(build("unet", NetworkShape(6, 3, 0, 2, 0), channels=4, group_channels=4, multipliers=(1, 2, 2)))
    whole = build("unet", NetworkShape(8, 3, 0, 2, 0), **padded.hyperparameters).double()
    whole.load_state_dict(padded.state_dict())
    assert (padded.padding, whole.padding) == (2, 0)
    x = maps(5, 6, 3)
    none = torch.empty(5, 0, dtype=torch.float64)
    with torch.no_grad():
        expected = whole(F.pad(x, (0, 0, 2, 0)), none)[0][:, 2:]
        torch.testing.assert_close(padded(x, none)[0], expected)


@pytest.mark.parametrize("positive", [False, True])
def test_output_scalars_are_means_of_level_maps(positive):
    shape = NetworkShape(8, 3, 2, 0, 4)
    network = randomised(build("unet", shape, channels=4, group_channels=4, positive_scalars=positive))
    seen = []
    network.heads[0].register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        scalars = network(maps(5, 8, 3), maps(5, 2))[1]
    expected = seen[0].clamp(min=0) if positive else seen[0]
    torch.testing.assert_close(scalars, expected.mean(dim=1))


@pytest.mark.parametrize(
    "overrides",
    [
        {"channels": 8},
        {"channels": 0, "group_channels": 0},
        {"multipliers": []},
        {"multipliers": [1, 0]},
        {"blocks": 0},
        {"dropout": 1.0},
    ],
)
def test_settings_out_of_range_are_refused(overrides):
    with pytest.raises(UsageError, match="unet"):
        build("unet", NetworkShape(8, 4, 16, 4, 13), **overrides)
