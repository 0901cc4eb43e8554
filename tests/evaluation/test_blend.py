"""Blends: the search beside brute force, the objective beside real scores, and a blend where an emulator stands."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.deployment import ExportConfig, export
from subgrid.emulator import FlatEmulator, load, load_emulator, save_emulator
from subgrid.emulator.blend import BlendedEmulator
from subgrid.evaluation import EvaluateConfig, evaluate
from subgrid.evaluation.blend import BlendConfig, blend
from subgrid.evaluation.hill_climbing import climb
from subgrid.evaluation.predict import emulator_predictor
from subgrid.training import fit


@pytest.fixture(scope="module")
def runs(tmp_path_factory, train_config, tiny_run):
    """Two runs of other seeds and widths beside the tiny one, one of them with other representations."""
    folder = tmp_path_factory.mktemp("blended")
    fit(train_config(seed=1, recipe="multirepresentation"), folder / "multi")
    fit(
        train_config(seed=2, network={"widths": [8]}, recipe_settings={"epochs": 1, "batch_size": 512}), folder / "poor"
    )
    return tuple(str(run) for run in (tiny_run, folder / "multi", folder / "poor"))


def form_of(errors):
    return errors @ errors.T / errors.shape[1]


def test_the_search_comes_to_the_least_of_all_weights_that_sum_to_one():
    rng = np.random.default_rng(3)
    shared = rng.standard_normal(5000)
    form = form_of(np.stack([shared + s * rng.standard_normal(5000) for s in (0.3, 0.5, 0.9)]))
    inverse = np.linalg.solve(form, np.ones(3))
    least = 1.0 / inverse.sum()
    weights = climb(form)
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ form @ weights == pytest.approx(least, rel=1e-3)


def test_a_correlated_poorer_member_gets_a_negative_weight_where_that_is_allowed():
    rng = np.random.default_rng(4)
    shared, own = rng.standard_normal((2, 5000))
    form = form_of(np.stack([shared + 0.2 * own, 2.0 * shared + 0.1 * own]))
    assert climb(form)[1] < -0.3
    assert (climb(form, negative=False) >= 0).all()
    assert climb(form) @ form @ climb(form) < climb(form, False) @ form @ climb(form, False)


def test_no_step_from_the_end_is_better():
    rng = np.random.default_rng(5)
    form = form_of(rng.standard_normal((4, 50)))
    weights = climb(form)
    here = weights @ form @ weights
    for member in range(4):
        for step in np.arange(-0.5, 0.505, 0.01):
            there = (1 - step) * weights + step * np.eye(4)[member]
            assert there @ form @ there >= here * (1 - 1e-9)


def test_the_squared_error_is_that_of_the_blend_itself(runs, tiny_store, tmp_path):
    told = blend(BlendConfig(runs, str(tiny_store.path)), tmp_path / "blend")
    split = tiny_store["validation"]
    made = load(tmp_path / "blend")
    std = tiny_store["train"].variable_statistics(made.variables.targets)["std"]
    x, y = (
        np.concatenate([split.read_variables(v, b) for b in range(split.blocks)])
        for v in (made.variables.inputs, made.variables.targets)
    )
    live = y.std(axis=0) > 0

    def error(emulator):
        return (((emulator_predictor(emulator)(x) - y)[:, live] / std[live]) ** 2).mean()

    for run in runs:
        assert told["scores"][run] == pytest.approx(error(load(run)), rel=1e-5)
    # the constraints act on the sum once more
    assert told["scores"]["blend"] == pytest.approx(error(made), rel=1e-2)
    assert told["scores"]["blend"] < min(told["scores"][run] for run in runs)
    assert told["scores"]["blend"] <= told["scores"]["equal weights"]
    weights = told["weights"]["all"]
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert made.metadata["weights"] == told["weights"]
    assert json.loads((tmp_path / "blend" / "blend.json").read_text()) == told


@pytest.mark.parametrize("groups", ["all", "variable"])
def test_r2_is_that_of_an_evaluation(runs, tiny_store, tmp_path, groups):
    told = blend(BlendConfig(runs, str(tiny_store.path), objective="r2", groups=groups), tmp_path / "blend")

    def mean_r2(path):
        scores = evaluate(EvaluateConfig(str(path), str(tiny_store.path), "validation"), tmp_path / "scores")
        found = [v["r2"] for v in scores["models"]["emulator"].values() if v["r2"] is not None]
        return sum(found) / len(found)

    assert told["scores"][runs[0]] == pytest.approx(mean_r2(runs[0]), abs=1e-4)
    assert told["scores"]["blend"] == pytest.approx(mean_r2(tmp_path / "blend"), abs=5e-3)
    assert told["scores"]["blend"] > max(told["scores"][run] for run in runs)
    assert len(told["weights"]) == (1 if groups == "all" else 16)


def test_weights_for_each_variable_are_no_worse(runs, tiny_store, tmp_path):
    one = blend(BlendConfig(runs, str(tiny_store.path)), tmp_path / "one")
    many = blend(BlendConfig(runs, str(tiny_store.path), groups="variable"), tmp_path / "many")
    assert many["scores"]["blend"] < one["scores"]["blend"]


@pytest.fixture
def blended(runs):
    members = [load_emulator(run) for run in runs[:2]]
    weights = np.stack([np.full(44, 1.3), np.full(44, -0.3)])
    return BlendedEmulator(members, weights).eval()


def test_it_is_the_weighted_sum_within_the_constraints(blended, tiny_store):
    x = torch.from_numpy(tiny_store["test"].read_variables(blended.variables.inputs, 0)[:64].copy())
    with torch.no_grad():
        found, counted = FlatEmulator(blended)(x)
        one, other = (FlatEmulator(member)(x)[0] for member in blended.members)
    wanted = 1.3 * one - 0.3 * other
    humidity = slice(8, 16)  # may be bound by what a layer holds
    others = [k for k in range(44) if not 8 <= k < 16]
    torch.testing.assert_close(found[:, others], wanted[:, others], rtol=1e-4, atol=1e-8)
    assert (found[:, humidity] >= -x[:, 8:16] / blended.time_step - 1e-12).all()
    assert counted.shape == (64, sum(c.width for c in blended.counters))


def test_it_is_saved_loaded_and_exported(blended, tiny_store, tmp_path):
    blended.metadata = {"store": str(tiny_store.path)}
    again = load(save_emulator(blended, tmp_path / "emulator"))
    x = torch.from_numpy(tiny_store["test"].read_variables(blended.variables.inputs, 0)[:64].copy())
    with torch.no_grad():
        assert torch.equal(FlatEmulator(again)(x)[0], FlatEmulator(blended)(x)[0])
    assert again.metadata == blended.metadata and again.answer == "weighted sum of 2 emulators"
    report = export(tmp_path / "emulator", tmp_path / "export", ExportConfig(str(tiny_store.path)))
    assert report["same_batch"] == 0.0
    assert not load(tmp_path / "emulator", clip_outputs=False).members[0].config.clip_outputs


def test_a_damaged_blend_is_refused(blended, tmp_path):
    folder = save_emulator(blended, tmp_path / "emulator")
    (folder / "members/1/weights.safetensors").unlink()
    with pytest.raises(SubgridError, match="does not exist"):
        load(folder)
    with pytest.raises(SubgridError, match="sum to 1"):
        BlendedEmulator(list(blended.members), np.ones((2, 44)))


def test_runs_that_differ_are_refused_by_what_differs(runs, train_config, make_emulator, tiny_store, tmp_path):
    save_emulator(make_emulator(water="projection"), tmp_path / "closed")
    with pytest.raises(UsageError, match=r"another emulator\.water"):
        blend(BlendConfig((runs[0], str(tmp_path / "closed")), str(tiny_store.path)), tmp_path / "out")
    save_emulator(make_emulator(variables="speedy_expanded"), tmp_path / "more")
    with pytest.raises(UsageError, match="another variables"):
        blend(BlendConfig((runs[0], str(tmp_path / "more")), str(tiny_store.path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
