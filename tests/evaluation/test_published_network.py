"""A published network on a store converted from ClimSim's files: scored, exported and predicted by its own numbers."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.cli.app import main
from subgrid.columns.climsim.convert import ConvertConfig, convert
from subgrid.columns.climsim.sample import SampleConfig, write_sample
from subgrid.columns.variables import offsets, variable_set
from subgrid.deployment import ExportConfig, export
from subgrid.emulator import FlatEmulator, load_for_store
from subgrid.evaluation import EvaluateConfig, evaluate

SPLIT = "scoring"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Files of 1,200 s over a day, 12 columns, converted with the set that the file takes; no split is called test."""
    folder = tmp_path_factory.mktemp("climsim")
    write_sample(folder / "files", SampleConfig(columns=12, stride=6))
    return convert(ConvertConfig(str(folder / "files"), "v2_rh", "val,scoring"), folder / "store.zarr")


@pytest.fixture(scope="module")
def scores(store, published_file, tmp_path_factory):
    config = EvaluateConfig(str(published_file), str(store.path), SPLIT, "climsim,kaggle", "v2_rh_mc")
    return evaluate(config, tmp_path_factory.mktemp("scores") / "e")


@pytest.fixture(scope="module")
def plain(store, wrapper):
    """(prediction, truth, column) of the split, from the network's own arithmetic; snow on ice with ClimSim's fill."""
    split, variables = store[SPLIT], variable_set("v2_rh")
    parts = []
    for block in range(split.blocks):
        x = split.read_variables(variables.inputs, block).copy()
        mask = split.read("scoring", block)[:, [v.name for v in store.spec.arrays["scoring"]].index("snowhice_mask")]
        place = offsets(variables.inputs, 60)["cam_in_SNOWHICE"]
        x[:, place] += np.float32(1e30) * mask[:, None]
        with torch.inference_mode():
            y = wrapper()(torch.from_numpy(x)).double().numpy()
        truth = split.read_variables(variables.targets, block).astype(np.float64)
        parts.append((y, truth, split.read("column", block)))
    return [np.concatenate(found) for found in zip(*parts, strict=True)]


def test_the_published_aggregation_scores_its_own_numbers(store, scores, plain):
    prediction, truth, column = plain
    part = offsets(variable_set("v2_rh").targets, 60)["cam_out_NETSW"]
    error = np.abs(prediction - truth)[:, part.start]
    area = store.grid.area / store.grid.area.mean()
    wanted = np.mean([area[c] * error[column == c].mean() for c in range(store.grid.columns)])
    found = scores["metrics"]["climsim"]["variables"]["cam_out_NETSW"]["mae"]
    assert wanted > 1.0 and found == pytest.approx(wanted, rel=1e-9)


def test_the_competition_scores_its_own_numbers(scores, plain):
    prediction, truth, _ = plain
    part = offsets(variable_set("v2_rh").targets, 60)["ptend_t"]
    p, y = prediction[:, part], truth[:, part]
    wanted = 1.0 - ((p - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(scores["metrics"]["kaggle"]["r2"]["ptend_t"], wanted, rtol=1e-6)


def test_confidences_change_no_score(store, wrapper, scores, tmp_path):
    torch.jit.script(wrapper(True)).save(str(tmp_path / "published.pt"))
    config = EvaluateConfig(str(tmp_path / "published.pt"), str(store.path), SPLIT, "climsim,kaggle", "v2_rh_mc")
    again = evaluate(config, tmp_path / "e")
    assert json.dumps(again["models"]) == json.dumps(scores["models"])
    assert json.dumps(again["metrics"]) == json.dumps(scores["metrics"])


def test_it_is_exported_beside_ours(store, published_file, tmp_path):
    report = export(published_file, tmp_path / "export", ExportConfig(str(store.path), variables="v2_rh_mc"))
    assert report["max_relative_difference"] == 0.0 and report["split"] == SPLIT
    contract = json.loads((tmp_path / "export" / "contract.json").read_text())
    assert (contract["n_in"], contract["n_out"], contract["time_step_s"]) == (557, 368, 1200.0)
    assert contract["inputs"][120] == "state_q0002_0" and contract["inputs"][540] == "state_ps"
    again = load_for_store(tmp_path / "export" / "model.pt", store, "v2_rh_mc")
    ours = load_for_store(published_file, store, "v2_rh_mc")
    x = torch.from_numpy(store[SPLIT].read_variables(ours.variables.inputs, 0)[:50].copy())
    with torch.inference_mode():
        assert torch.equal(FlatEmulator(again)(x)[0], FlatEmulator(ours)(x)[0])


def test_nothing_executes_before_the_words_are_right(store, published_file, tmp_path, caplog):
    with pytest.raises(UsageError, match="has no split 'test'; it has scoring, validation"):
        evaluate(EvaluateConfig(str(published_file), str(store.path), variables="v2_rh_mc"), tmp_path / "e")
    assert "executes" not in caplog.text and not (tmp_path / "e").exists()


def test_a_store_of_other_variables_is_refused(climsim_store, published_file, tmp_path):
    other = climsim_store("v1", 60, splits=(("test", 64),))
    with pytest.raises(SubgridError, match=r"does not hold variable set 'v2_rh': it lacks state_rh.*"):
        evaluate(EvaluateConfig(str(published_file), str(other.path), variables="v2_rh_mc"), tmp_path / "e")


def test_the_verbs_take_the_file(store, published_file, scores, tmp_path, monkeypatch, capsys):
    shutil.copy(published_file, tmp_path / "published.pt")
    monkeypatch.chdir(tmp_path)
    given = ["published.pt", "variables=v2_rh_mc", f"data={store.path}"]
    for words in (["evaluate", *given, f"split={SPLIT}", "metrics=kaggle"], ["export", *given]):
        monkeypatch.setattr(sys, "argv", ["subgrid", "--quiet", *words, "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        said = capsys.readouterr()
        assert "executes code from the file" in said.err
        if words[0] == "evaluate":
            assert json.loads(said.out)["metrics"]["kaggle"] == scores["metrics"]["kaggle"]
    assert (tmp_path / "published" / "evaluation" / "scores.json").is_file()
    assert (tmp_path / "published" / "export" / "contract.json").is_file()
