"""Per-group fine-tuning: groups, copies, and an emulator that takes each group's outputs from its own copy."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.cli.verbs import finetune_settings
from subgrid.columns.variables import offsets, variable_set
from subgrid.emulator import FlatEmulator, load, load_emulator
from subgrid.evaluation import EvaluateConfig, evaluate
from subgrid.workflows.finetune import FinetuneConfig, finetune, finetune_lines, groups_of

GROUPS = [["temperature_tendency"], ["evaporation", "outgoing_longwave"]]


@pytest.fixture(scope="module")
def config(train_config, tiny_run):
    settings = {"epochs": 1, "batch_size": 256, "learning_rate": 3e-3, "warmup": 0.0}
    return FinetuneConfig(str(tiny_run), train_config(recipe_settings=settings), GROUPS)


@pytest.fixture(scope="module")
def tuned(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("finetune") / "tuned"
    return out, finetune(config, out)


def outputs_of(emulator, store):
    x = torch.from_numpy(store["test"].read_variables(emulator.variables.inputs, 0).copy())
    with torch.inference_mode():
        return FlatEmulator(emulator).eval()(x)[0].numpy()


def test_the_groups_of_the_second_place():
    found = groups_of("profiles", variable_set("v2"))
    assert len(found) == 7 and found["ptend_q0002"] == ("ptend_q0002",) and len(found["scalars"]) == 8
    assert len(groups_of("variables", variable_set("v2"))) == 14
    assert groups_of([["ptend_u", "ptend_v"]], variable_set("v2")) == {"ptend_u+ptend_v": ("ptend_u", "ptend_v")}


@pytest.mark.parametrize(
    ("groups", "what"),
    [([["ptend_w"]], "ptend_u"), ([["ptend_u"], ["ptend_u"]], "ptend_u is in two groups"), ([[]], "a group is empty")],
)
def test_groups_that_cannot_be_are_refused(groups, what):
    with pytest.raises(UsageError, match=what):
        groups_of(groups, variable_set("v2"))


def test_each_group_comes_from_its_copy_and_the_rest_from_the_run(tuned, tiny_run, tiny_store):
    out, told = tuned
    assert all(entry["tuned"] and entry["after"] < entry["before"] for entry in told["groups"].values())
    found = outputs_of(load(out), tiny_store)
    place = offsets(load(out).variables.targets, 8)
    rest = np.ones(found.shape[1], bool)
    for name, entry in told["groups"].items():
        copy = outputs_of(load_emulator(out / f"group-{name}"), tiny_store)
        for output in entry["outputs"]:
            np.testing.assert_allclose(found[:, place[output]], copy[:, place[output]], rtol=1e-6)
            rest[place[output]] = False
    base = outputs_of(load_emulator(tiny_run), tiny_store)
    np.testing.assert_allclose(found[:, rest], base[:, rest], rtol=1e-6)
    assert np.abs(found[:, ~rest] - base[:, ~rest]).max() > 0
    assert any("temperature_tendency" in line for line in finetune_lines(told))


def test_what_was_tuned_scores_better(tuned, tiny_run, tiny_store, tmp_path):
    scores = [
        evaluate(EvaluateConfig(str(run), str(tiny_store.path), split="validation"), tmp_path / name)["models"]
        for name, run in (("base", tiny_run), ("tuned", tuned[0]))
    ]
    before, after = (one["emulator"] for one in scores)
    for name in ("evaporation", "outgoing_longwave"):
        assert after[name]["r2"] > before[name]["r2"]
    assert after["absorbed_solar"]["r2"] == pytest.approx(before["absorbed_solar"]["r2"], abs=1e-6)


def test_finished_copies_are_not_trained_again(tuned, config, monkeypatch):
    out, told = tuned
    (out / "groups.json").unlink()
    monkeypatch.setattr(import_module("subgrid.training.fit"), "_fit", lambda *a: pytest.fail("trained again"))
    assert finetune(config, out) == told
    assert json.loads((out / "groups.json").read_text())["groups"] == told["groups"]


def test_a_copy_that_is_no_better_is_not_used(config, tiny_run, tiny_store, tmp_path):
    wild = replace(config.train, recipe_settings={**config.train.recipe_settings, "learning_rate": 3.0})
    with pytest.raises(SubgridError, match=r"lower recipe\.learning_rate"):
        finetune(replace(config, train=wild), tmp_path / "wild")
    assert not (tmp_path / "wild" / "emulator").exists()


def test_settings_that_have_no_place_are_refused(config):
    for changes, what in (
        ({"recipe_settings": {"outputs": ["evaporation"]}}, "recipe.outputs"),
        ({"transforms": "refitted", "from_run": "run"}, "transforms=refitted"),
    ):
        with pytest.raises(UsageError, match=what):
            replace(config, train=replace(config.train, **changes))
    for groups, what in (("all", "profiles"), ([], "must be"), ([["a"], "b"], "must be"), (3, "must be")):
        with pytest.raises(UsageError, match=what):
            replace(config, groups=groups)


def test_the_words_take_the_runs_own_recipe(tiny_run, tiny_store):
    config, out = finetune_settings(str(tiny_run), ["out=tuned", "recipe.epochs=2", "groups=variables"])
    settings = config.train.recipe_settings
    assert out == "tuned" and config.groups == "variables" and config.train.data == str(tiny_store.path)
    assert settings["batch_size"] == 256 and settings["epochs"] == 2
    assert settings["learning_rate"] == pytest.approx(2e-4)
    config, _ = finetune_settings(str(tiny_run), ["out=tuned", "groups=[[evaporation],[outgoing_longwave]]"])
    assert config.groups == [["evaporation"], ["outgoing_longwave"]] and config.train.recipe_settings["epochs"] == 1
    with pytest.raises(UsageError, match="from="):
        finetune_settings(str(tiny_run), ["out=tuned", "from=other"])
    with pytest.raises(UsageError, match="profiles"):
        finetune_settings(str(tiny_run), ["out=tuned", "groups=profile"])
