"""Parameters of each architecture in a run: the published table, real runs, and refusals by name."""

from __future__ import annotations

import pytest

from subgrid.base.errors import UsageError
from subgrid.networks import names
from subgrid.training.fit import TrainConfig, prepare
from subgrid.training.sizes import parameter_counts

#: Of size paper with v2_rh_mc (arXiv:2511.20963), by recipe.
PUBLISHED = {
    "standard": (12_975_373, 44_785_225, 15_395_341, 18_876_133, 26_805_429, 18_582_976),
    "confidence": (12_980_634, 44_811_862, 15_402_010, 25_407_346, 26_839_242, 20_723_124),
    "multirepresentation": (12_981_517, 44_791_369, 15_428_109, 18_880_613, 26_811_573, 21_004_960),
    "expanded": (12_981_517, 44_791_369, 15_428_109, 18_880_373, 26_811_573, 21_004_960),
}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_published_table(recipe):
    found = parameter_counts("paper", "v2_rh_mc", recipe)
    order = ("unet", "squeezeformer", "res_lstm", "pao", "convnext", "encdec_lstm")
    assert tuple(found.parameters[name] for name in order) == PUBLISHED[recipe]
    assert found.levels == 60


def test_every_architecture_has_a_number_or_a_reason():
    found = parameter_counts("small", "speedy", "confidence")
    assert {*found.parameters, *found.refused} >= set(names())
    assert sorted(found.refused) == ["cvae", "hsr", "rpn"]
    assert all("confidence" in reason for reason in found.refused.values())


@pytest.mark.parametrize("recipe", ["standard", "multirepresentation", "expanded"])
def test_a_run_has_as_many(tiny_store, recipe):
    config = TrainConfig(
        data=str(tiny_store.path), architecture="unet", recipe=recipe, recipe_settings={"batch_size": 64}
    )
    emulator, _ = prepare(config, tiny_store)
    counted = sum(p.numel() for p in emulator.network.parameters() if p.requires_grad)
    found = parameter_counts("small", "speedy", recipe)
    assert found.parameters["unet"] == counted
    assert (found.levels, found.variables) == (8, emulator.variables.name)


def test_levels_and_wrong_names():
    assert parameter_counts("small", "speedy", "standard", 30).levels == 30
    with pytest.raises(UsageError, match="small"):
        parameter_counts("smal", "speedy", "standard")
    with pytest.raises(UsageError, match="no variable set adds"):
        parameter_counts("small", "speedy_keep_diffusion", "expanded")
