"""Every architecture under every recipe at 8 and 60 levels: trains, comes back from disk, scripts, stays finite.

A cover in which every pair of (architecture, recipe, levels) meets is in the ordinary tests, all in `make test-matrix`.
"""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.deployment.torchscript import script
from subgrid.emulator import FlatEmulator, load_emulator, save_emulator
from subgrid.training import TrainConfig
from subgrid.training.fit import prepare

#: Settings that make each architecture tiny; nothing is dropped, so that a loss can be compared with the one before.
TINY = {
    "cnn": {"blocks": 1, "channels": 8, "dropout": 0.0},
    "convnext": {"depths": [1, 1], "channels": [8, 12]},
    "cvae": {"widths": [16, 16]},
    "ed": {"widths": [24, 8]},
    "encdec_lstm": {"hidden": 8, "layers": 1, "recurrent_out": 4},
    "hsr": {"widths": [16, 16]},
    "mlp": {"widths": [16, 16]},
    "pao": {"channels": 8, "blocks": 1, "attention_heads": 2},
    "res_lstm": {"hidden": 8, "layers": 2},
    "rpn": {"widths": [16], "members": 3},
    "squeezeformer": {"channels": 8, "blocks": 1, "attention_heads": 2, "kernel": 3, "head": 8},
    "unet": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "group_channels": 8},
}
RECIPES = ("standard", "confidence", "difference", "multirepresentation", "expanded")
LEVELS = (8, 60)
#: Recipes with an objective of their own, and networks that bring theirs.
OBJECTIVES, DISTRIBUTIONS = ("confidence", "difference"), ("cvae", "hsr", "rpn")


def pairwise_cover(*choices):
    """As many cells as the two longest lists have pairs, in which every pair of every two lists meets."""
    first, second, third = choices
    return [(a, b, third[(i + j) % len(third)]) for (i, a), (j, b) in product(enumerate(first), enumerate(second))]


ALL = list(product(TINY, RECIPES, LEVELS))
COVER = pairwise_cover(list(TINY), RECIPES, LEVELS)
CELLS = [pytest.param(*cell, marks=() if cell in COVER else pytest.mark.matrix) for cell in ALL]


def test_every_pair_is_in_the_cover():
    for one, other in combinations(range(3), 2):
        assert {(cell[one], cell[other]) for cell in COVER} == {(cell[one], cell[other]) for cell in ALL}


@pytest.fixture(scope="module")
def stores(tiny_store, climsim_store):
    """A store of each number of levels with all inputs, and the variable set that runs start from."""
    return {8: (tiny_store, "speedy"), 60: (climsim_store("v6", 60), "v2_rh_mc")}


@pytest.mark.parametrize(("architecture", "recipe", "levels"), CELLS)
def test_a_cell(architecture, recipe, levels, stores, tmp_path):
    store, variables = stores[levels]
    config = TrainConfig(
        data=str(store.path),
        variables=variables,
        architecture=architecture,
        network=TINY[architecture],
        recipe=recipe,
        recipe_settings={"batch_size": 64, "warmup": 0.0, "learning_rate": 1e-4},
    )
    if architecture in DISTRIBUTIONS and recipe in OBJECTIVES:
        with pytest.raises(UsageError, match=recipe):
            prepare(config, store)
        return
    emulator, chosen = prepare(config, store)
    assert emulator.levels == levels
    train = store["train"]
    held = emulator.variables
    rows = [torch.from_numpy(train.read_variables(v, 0)[:64].copy()) for v in (held.inputs, held.targets)]
    assert_a_step_lowers_the_loss(emulator, chosen, rows)
    emulator.eval()
    again = load_emulator(save_emulator(emulator, tmp_path / "emulator"))
    x = rows[0]
    with torch.no_grad():
        found = FlatEmulator(emulator)(x)[0]
        assert torch.equal(FlatEmulator(again)(x)[0], found)
        module = script(FlatEmulator(again), x[:16])
        assert torch.equal(module(x), found)
        for strange in (torch.zeros_like(x), *extremes(x)):
            assert torch.isfinite(module(strange)).all()


def assert_a_step_lowers_the_loss(emulator, chosen, rows):
    """One step of the recipe's own optimiser, judged on the columns and the noise of that step."""
    optimizer, _ = chosen.optimizer(emulator, 10)
    weight = torch.ones(len(rows[0]))

    def loss():
        torch.manual_seed(1)
        return chosen.loss(emulator, *rows, weight, training=True)

    emulator.train()
    before = loss()
    before.backward()
    optimizer.step()
    after = loss()
    assert torch.isfinite(before) and after < before


def extremes(x):
    """A thousand spreads to either side of the mean, and ten times what was seen."""
    mean, spread = x.mean(0), x.std(0)
    far = 1e3 * spread * torch.linspace(-1.0, 1.0, len(x))[:, None]
    return mean + far, 10.0 * x, -10.0 * x
