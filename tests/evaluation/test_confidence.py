"""Which emulators give a confidence, and of what."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from subgrid.columns.variables import variable_set
from subgrid.emulator import load
from subgrid.evaluation.confidence import confidence_of


class Network(nn.Module):
    """368 tendencies, and where it is sure, 308 numbers for the five profiles and eight fluxes that it predicts."""

    def __init__(self, sure: bool) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, x: Tensor) -> Tensor:
        y = x[:, :368] * 1e-6
        return torch.cat([y, x[:, :308] * 2.0], dim=1) if self.sure else y


def network(folder, sure):
    torch.jit.script(Network(sure)).save(str(folder / "network.pt"))
    return load(folder / "network.pt", "v2_rh_mc")


def test_a_network_without_one_has_none(tmp_path, tiny_emulator):
    assert confidence_of(tiny_emulator) is None
    assert confidence_of(network(tmp_path, False)) is None


@pytest.mark.parametrize("rows", [1, 5])
def test_it_is_of_the_targets_that_the_authors_name(tmp_path, rows):
    found = confidence_of(network(tmp_path, True))
    assert found is not None and found.variables == variable_set("v2_rh_mc").targets and found.width == 308
    x = np.random.default_rng(0).random((rows, 557)).astype(np.float32)
    np.testing.assert_array_equal(found.predict(x), 2.0 * x[:, :308].astype(np.float64))
