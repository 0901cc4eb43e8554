import json

import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.networks import NetworkShape, build


def test_flat_sizes_are_those_of_climsim_expanded_kaggle_vectors():
    shape = NetworkShape(60, 23, 19, 5, 8)
    assert (shape.flat_in, shape.flat_out) == (1399, 308)


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ((3, 1, 0, 1, 0), "levels must be at least 4, got 3"),
        ((8, -1, 2, 1, 0), "profiles_in must be a whole number >= 0, got -1"),
        ((8, 1, 2.0, 1, 0), "scalars_in must be a whole number >= 0, got 2.0"),
        ((True, 1, 2, 1, 0), "levels must be a whole number"),
        ((8, 0, 0, 1, 0), "at least one input"),
        ((8, 1, 0, 0, 0), "at least one output"),
    ],
)
def test_impossible_shapes_are_refused_in_one_line(sizes, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        NetworkShape(*sizes)
    assert "\n" not in str(caught.value)


def test_zeros_have_the_asked_dtype():
    profiles, scalars = NetworkShape(8, 4, 0, 1, 1).zeros(3, dtype=torch.float64)
    assert profiles.shape == (3, 8, 4)
    assert scalars.shape == (3, 0)
    assert scalars.dtype == torch.float64


def test_a_network_knows_what_it_is():
    shape = NetworkShape(8, 4, 3, 2, 1)
    network = build("mlp", shape, widths=(5, 6))
    assert (network.architecture, network.shape) == ("mlp", shape)
    assert network.hyperparameters["widths"] == [5, 6]
    assert json.loads(json.dumps(network.hyperparameters)) == network.hyperparameters
