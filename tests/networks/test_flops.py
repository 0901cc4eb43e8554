import pytest
import torch

from subgrid.networks import NetworkShape, build, count_flops

SHAPE = NetworkShape(8, 4, 16, 4, 13)


def test_mlp_by_hand():
    assert count_flops(build("mlp", SHAPE), SHAPE) == 2 * (48 * 384 + 2 * 384 * 384 + 384 * 45)


def test_unet_stem_and_head_by_hand():
    """One resolution of one level-wise block, counted convolution by convolution."""
    settings = {"channels": 4, "group_channels": 4, "multipliers": (1,), "attention": False}
    shape = NetworkShape(4, 1, 1, 1, 0)
    by_level = 3 * 2 * 4  # stem, 2 -> 4
    by_level += 3 * (2 * 3 * 4 * 4)  # 1 block down, 2 at the bottom: two convolutions each
    by_level += 2 * (3 * 8 * 4 + 3 * 4 * 4 + 8 * 4)  # 2 blocks up: concatenated input, 1x1 skip
    by_level += 3 * 4 * 1  # head
    assert count_flops(build("unet", shape, **settings), shape) == 2 * 4 * by_level


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_small_sizes_fit_the_budget_of_a_host_model(name):
    assert count_flops(build(name, SHAPE), SHAPE) <= 0.7e6


def test_the_module_is_left_as_it_was():
    network = build("mlp", SHAPE, dropout=0.5).double()
    network.hidden[1].eval()
    before = [part.training for part in network.modules()]
    state = torch.get_rng_state()
    count_flops(network, SHAPE)
    assert [part.training for part in network.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
