"""Truth first: what closes, what does not, and what a penalty does."""

from __future__ import annotations

import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.emulator import EmulatorConfig
from subgrid.emulator.budgets import column_budget, find_budget
from subgrid.emulator.flat import unflatten
from subgrid.training import fit
from subgrid.training.closure import require_closed, truth_residual
from subgrid.training.recipes import recipe

LEVELS = 8


def test_closed_truth_is_known_as_such(closed_store, make_emulator):
    for name in ("energy", "water"):
        found = truth_residual(make_emulator(), name, closed_store["train"])
        assert found["closed"] == 1.0
        assert found["relative_max"] < 1e-5
        assert "surface_net_shortwave" in found["terms"] or name == "water"


@pytest.mark.parametrize("how", ["level", "projection"])
@pytest.mark.parametrize("name", ["energy", "water"])
def test_a_budget_that_the_truth_leaves_open_is_not_closed(tiny_store, make_emulator, name, how):
    emulator = make_emulator(**{name: how})
    with pytest.raises(UsageError, match=rf"emulator.{name}={how} would close .* use .* recipe.{name}_penalty"):
        require_closed(emulator, recipe("standard").config, tiny_store["train"])


def test_a_run_says_what_the_truth_does(closed_store, train_config, tmp_path):
    closing = EmulatorConfig(energy="projection", water="level")
    emulator = fit(train_config(data=str(closed_store.path), emulator=closing), tmp_path / "run")
    assert set(emulator.metadata["truth"]) == {"energy", "water"}
    assert emulator.metadata["truth"]["energy"]["closed"] == 1.0


def test_a_penalty_matches_an_open_truth(train_config, tmp_path):
    settings = {"epochs": 1, "batch_size": 256, "energy_penalty": 0.2, "water_penalty": 0.1}
    emulator = fit(train_config(recipe_settings=settings), tmp_path / "run")
    assert emulator.metadata["truth"]["energy"]["closed"] < 0.5


class TestPenalty:
    @pytest.fixture
    def batch(self, make_rows):
        rows = make_rows(64, 3)
        weight = torch.ones(64)
        weight[::5] = 0.0
        return torch.from_numpy(rows["inputs"]), torch.from_numpy(rows["targets"]), weight

    def test_by_hand(self, make_emulator, batch):
        """(1 - a) loss + a r^2, with r from raw outputs, budgets of prediction and truth apart."""
        emulator = make_emulator()
        inputs, targets, weight = batch
        plain = recipe("standard").loss(emulator, inputs, targets, weight, training=True).item()
        found = recipe("standard", energy_penalty=0.25).loss(emulator, inputs, targets, weight, training=True).item()
        variables = emulator.variables
        budget = column_budget(find_budget("energy", variables), variables, emulator.grid)
        p_in, s_in = unflatten(inputs, 4, LEVELS)
        with torch.no_grad():
            p, s = emulator.outputs.inverse(*emulator.network(*emulator.encode(p_in, s_in)))
            of_prediction, _ = budget(*(part.double() for part in (p_in, s_in, p, s)))
            of_truth, _ = budget(*(part.double() for part in (p_in, s_in, *unflatten(targets, 4, LEVELS))))
        factor_p, factor_s = budget.factors(s_in.double())
        spread = (factor_p * emulator.outputs.profile_std).square().sum((1, 2))
        spread = spread + (factor_s * emulator.outputs.scalar_std).square().sum()
        row = torch.where(weight == 0, recipe("standard").config.perturbed_weight, 1.0)
        # A constant target is predicted as its mean, and its error does not count.
        wanted = ((of_prediction - of_truth).square() / spread * row).sum() / row.sum()
        assert found == pytest.approx(0.75 * plain + 0.25 * wanted.item(), rel=2e-3)

    def test_validation_stays_plain(self, make_emulator, batch):
        losses = [
            recipe("standard", **settings).loss(make_emulator(), *batch, training=False)
            for settings in ({}, {"energy_penalty": 0.5, "water_penalty": 0.3})
        ]
        assert torch.equal(*losses)

    def test_has_gradients_to_all_terms(self, make_emulator, batch):
        emulator = make_emulator()
        recipe("standard", water_penalty=0.99).loss(emulator, *batch, training=True).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in emulator.network.parameters())

    def test_a_network_with_its_own_loss_is_refused(self, make_emulator):
        chosen = recipe("standard", water_penalty=0.1)
        with pytest.raises(UsageError, match=r"architecture hsr brings its own loss: recipe.energy_penalty"):
            chosen.require(make_emulator(architecture="hsr").network)

    @pytest.mark.parametrize("settings", [{"energy_penalty": -0.1}, {"energy_penalty": 0.6, "water_penalty": 0.4}])
    def test_weights_out_of_range_are_refused(self, settings):
        with pytest.raises(UsageError, match="together be below 1"):
            recipe("standard", **settings)
