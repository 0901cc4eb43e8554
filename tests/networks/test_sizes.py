"""Published numbers of parameters at size `paper`, and what size `small` may cost."""

import itertools

import pytest
import torch

from subgrid.networks import NetworkShape, build, count_flops

#: (profiles, scalars, heads) of the standard inputs, of confidence, of several representations, of expanded inputs.
INPUTS = ((9, 17, 1), (9, 17, 2), (25, 17, 1), (23, 19, 1))
#: Trainable parameters at 60 levels and 5 + 8 outputs (arXiv:2511.20963).
PARAMETERS = {
    "unet": (12_975_373, 12_980_634, 12_981_517, 12_981_517),
    "squeezeformer": (44_785_225, 44_811_862, 44_791_369, 44_791_369),
    "res_lstm": (15_395_341, 15_402_010, 15_428_109, 15_428_109),
    "pao": (18_876_133, 25_407_346, 18_880_613, 18_880_373),
    "convnext": (26_805_429, 26_839_242, 26_811_573, 26_811_573),
    "encdec_lstm": (18_582_976, 20_723_124, 21_004_960, 21_004_960),
}


def parameters(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_numbers_of_parameters(name):
    with torch.device("meta"):
        found = [parameters(build(name, NetworkShape(60, p, s, 5, 8, h), "paper")) for p, s, h in INPUTS]
    assert tuple(found) == PARAMETERS[name]


def by_hand(widths):
    return sum(a * b + b for a, b in itertools.pairwise(widths))


@pytest.mark.parametrize("name", ["mlp", "ed", "rpn", "hsr", "cvae", "cnn"])
def test_layers_of_the_baselines(name):
    deep = by_hand([124, 768, 640, 512, 640, 640, 128])
    code = [463, 463, 231, 115, 57, 28, 5]
    normed = by_hand([124, 512, 512, 128]) + 4 * 512
    wanted = {
        "mlp": deep,
        "rpn": 128 * deep,
        "ed": by_hand([124, *code, *code[-2::-1], 128]),
        "hsr": 2 * normed,
        "cvae": by_hand([128 + 124, 512, 512, 6]) + by_hand([3 + 124, 512, 512, 256]) + 8 * 512,
        "cnn": (6 * 406 * 3 + 406) + (406 * 406 * 3 + 406) + (6 * 406 + 406)
        + 11 * (2 * (406 * 406 * 3 + 406) + 406 * 406 + 406)
        + (406 * 10 + 10) + (10 * 2 + 2) + (10 * 8 + 8),
    }  # fmt: skip
    with torch.device("meta"):
        assert parameters(build(name, NetworkShape(60, 2, 4, 2, 8), "paper")) == wanted[name]


#: Of the fifth place in millions, with 9 + 16 inputs (features: nine more profiles) and 6 + 8 outputs.
FIFTH_PLACE = {
    ("fifth_place_a", "paper", 9): 18.5,
    ("fifth_place_a", "features", 18): 18.2,
    ("fifth_place_b", "paper", 9): 11.7,
    ("fifth_place_b", "mean", 9): 13.6,
    ("fifth_place_b", "wide", 9): 18.2,
}


@pytest.mark.parametrize(("name", "size", "profiles"), FIFTH_PLACE)
def test_sizes_of_the_fifth_place(name, size, profiles):
    with torch.device("meta"):
        found = parameters(build(name, NetworkShape(60, profiles, 16, 6, 8), size))
    assert round(found / 1e6, 1) == FIFTH_PLACE[name, size, profiles]


@pytest.mark.parametrize("name", [*PARAMETERS, "mlp", "fifth_place_a", "fifth_place_b"])
def test_small_costs_at_most_seven_tenths_of_a_megaflop(name):
    shape = NetworkShape(8, 4, 16, 4, 13)
    assert 0.2e6 < count_flops(build(name, shape), shape) <= 0.7e6


@pytest.mark.parametrize("name", [*PARAMETERS, "mlp", "cnn", "ed", "fifth_place_a", "fifth_place_b"])
def test_a_second_head_is_another_set_of_outputs(name):
    one, two = NetworkShape(8, 4, 6, 3, 2), NetworkShape(8, 4, 6, 3, 2, heads=2)
    torch.manual_seed(0)
    network = build(name, two).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        profiles, scalars = network(torch.randn(5, 8, 4), torch.randn(5, 6))
    assert profiles.shape == (5, 8, 6) and scalars.shape == (5, 4)
    assert not torch.allclose(profiles[:, :, :3], profiles[:, :, 3:])
    assert not torch.allclose(scalars[:, :2], scalars[:, 2:])
    assert parameters(network) > parameters(build(name, one))
