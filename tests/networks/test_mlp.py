from itertools import pairwise

import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.networks import NetworkShape, build


def test_paper_size_has_the_layers_of_the_climsim_baseline():
    # ClimSim v1: 124 numbers in (2 profiles of 60, 4 scalars), 128 out (2 profiles, 8 scalars)
    network = build("mlp", NetworkShape(60, 2, 4, 2, 8), "paper")
    widths = [124, 768, 640, 512, 640, 640, 128]
    assert sum(p.numel() for p in network.parameters()) == sum(a * b + b for a, b in pairwise(widths))
    slopes = [m.negative_slope for m in network.modules() if isinstance(m, torch.nn.LeakyReLU)]
    assert slopes == [0.15] * 5


def test_hand_worked_column():
    network = build("mlp", NetworkShape(4, 1, 1, 1, 1), widths=(5, 5), activation="relu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for part in network.modules():
            if isinstance(part, torch.nn.Linear):
                part.weight.copy_(torch.eye(5))
        network.hidden[1].linear.bias.fill_(1.0)
        profiles, scalars = network(torch.tensor([[[1.0], [2.0], [-3.0], [4.0]]]), torch.tensor([[-5.0]]))
    # layer 1 (4 + 1 = 5 = its width, so it adds its input): x + relu(x) = 2, 4, -3, 8, -5
    # layer 2: h + relu(h + 1) = 5, 9, -3, 17, -5
    assert profiles.flatten().tolist() == [5.0, 9.0, -3.0, 17.0]
    assert scalars.tolist() == [[-5.0]]


def test_skips_only_between_equal_widths_and_only_if_asked():
    shape = NetworkShape(8, 4, 16, 4, 13)
    assert [h.skip for h in build("mlp", shape, widths=(48, 32, 32)).hidden] == [True, False, True]
    assert not any(h.skip for h in build("mlp", shape, residual=False).hidden)


@pytest.mark.parametrize("overrides", [{"widths": []}, {"widths": [0]}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_settings_out_of_range_are_refused(overrides):
    with pytest.raises(UsageError, match="mlp"):
        build("mlp", NetworkShape(8, 4, 16, 4, 13), **overrides)
