"""Draws of networks that give a distribution: their scores in an evaluation equal those of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns.variables import offsets
from subgrid.emulator import save_emulator
from subgrid.evaluation import EvaluateConfig, evaluate
from subgrid.evaluation.members import member_lines, member_scores, members_of
from subgrid.evaluation.predict import emulator_predictor
from subgrid.scores.members import fair_crps

NAMES = ("hsr", "rpn", "cvae")


@pytest.fixture(scope="module")
def emulators(make_emulator):
    return {name: make_emulator(architecture=name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_has_crps_and_spread_and_scores_of_the_mean(name, emulators, tiny_store, tmp_path):
    save_emulator(emulators[name], tmp_path / "run")
    config = EvaluateConfig(str(tmp_path / "run"), str(tiny_store.path), members=6, seed=3)
    scores = evaluate(config, tmp_path / "out")
    told = scores["members"]
    assert told["members"] == 6 and told["seed"] == 3 and scores["confidence"] is None
    assert told == member_scores(emulators[name], tiny_store["test"], 6, 3)
    assert told != member_scores(emulators[name], tiny_store["test"], 6, 4)
    rain = told["variables"]["convective_precipitation"]
    assert rain["spread"] > 0 and rain["crps"] > 0 and rain["crps_energy"] == pytest.approx(2.501e6 * rain["crps"])
    assert told["variables"]["surface_stress_u"]["crps_energy"] is None
    assert len(told["variables"]["temperature_tendency"]["crps_level"]) == 8
    assert any("convective_precipitation" in line for line in member_lines(told))


def test_the_scores_are_those_of_the_draws(emulators, tiny_store, monkeypatch):
    """Members that are the answer and two shifts of it: CRPS, spread and error as their formulas say."""
    emulator, test = emulators["hsr"], tiny_store["test"]
    shift = torch.tensor([-1.0, 0.5, 3.0])
    place = offsets(emulator.variables.targets, 8)["outgoing_longwave"].start

    def sample(p, s, members, generator):
        found = emulator(p, s, p[:, 0, :0])
        return (
            found[0].expand(members, *found[0].shape),
            found[1] + shift[:, None, None],
        )

    monkeypatch.setattr(emulator, "sample", sample)
    found = member_scores(emulator, test, 3, 0)["variables"]["outgoing_longwave"]
    predict, errors, weights = emulator_predictor(emulator), [], []
    for block in range(test.blocks):
        x, y = (test.read_variables(v, block) for v in (emulator.variables.inputs, emulator.variables.targets))
        errors.append(predict(x)[:, place] - y[:, place])
        weights.append(test.read("weight", block).astype(np.float64))
    error, weight = np.concatenate(errors), np.concatenate(weights)
    members = error + shift.numpy()[:, None]
    assert found["crps"] == pytest.approx((weight * fair_crps(members, 0 * error)).sum() / weight.sum(), rel=1e-4)
    assert found["spread"] == pytest.approx(np.std([-1.0, 0.5, 3.0], ddof=1), rel=1e-4)
    rmse = np.sqrt((weight * members.mean(0) ** 2).sum() / weight.sum())
    assert found["rmse"] == pytest.approx(rmse, rel=1e-4)
    assert found["spread_error"] == pytest.approx(np.sqrt(4 / 3) * found["spread"] / rmse, rel=1e-4)


def test_how_many_members_there_are(emulators, tiny_emulator):
    assert members_of(emulators["hsr"], None) == 32 and members_of(emulators["cvae"], 5) == 5
    assert members_of(emulators["rpn"], None) == 8  # it has no more
    assert members_of(emulators["rpn"], 3) == 3 and members_of(emulators["hsr"], 0) == 0
    assert members_of(tiny_emulator, None) == 0 and members_of(tiny_emulator, 0) == 0
    with pytest.raises(UsageError, match=r"members=4.*one answer.*hsr"):
        members_of(tiny_emulator, 4)


@pytest.mark.parametrize("members", [1, -2, "many", True])
def test_numbers_of_members_that_make_no_sense_are_refused(members):
    with pytest.raises(UsageError, match=f"members={members}"):
        EvaluateConfig("run", "store", members=members)
