"""The physics study: every variant once, a page that says what the scores say, and seas that are warmer alone."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from subgrid.base.formats import EVALUATION, read_record
from subgrid.workflows import physics as module
from subgrid.workflows import stores
from subgrid.workflows.physics import CLOSURES, INPUTS, PENALTIES, physics, runs
from subgrid.workflows.studies import STUDIES


@pytest.fixture(scope="module")
def study(tiny_store, tmp_path_factory):
    """A study of seconds; the warmer store is the same one."""
    out = tmp_path_factory.mktemp("physics")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RECIPE", {"epochs": 1, "batch_size": 256})
        patch.setattr(module, "COLUMNS", 600)
        patch.setattr(module, "warmer_store", lambda held, out: tiny_store.path)
        page = physics(tiny_store.path, out / "runs", out / "docs")
        before = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("scores.json")}
        assert physics(tiny_store.path, out / "runs", out / "docs") == page
        assert {p: p.stat().st_mtime_ns for p in before} == before  # nothing is done twice
    return out, page


def test_is_a_study():
    assert STUDIES["physics"] is physics


def test_runs_differ_in_inputs_or_penalties_alone(tiny_store):
    found = runs(tiny_store.path)
    assert len(found) == len(INPUTS) + len(PENALTIES)
    assert {found[name].emulator.inputs for name in INPUTS} == set(INPUTS)
    assert {found[f"penalty-{a:g}"].recipe_settings["water_penalty"] for a in PENALTIES} == set(PENALTIES)


def test_closing_is_seen_in_the_scores(study):
    out, _ = study
    for name, how in CLOSURES.items():
        folder = out / "runs" / "evaluation" / f"{module.PLAIN}-{module._label(name)}"
        scores = read_record(folder / "scores.json", EVALUATION)
        assert scores.get("constraints", {}) == how
        for budget in ("energy", "water"):
            largest = scores["budgets"][budget]["emulator"]["relative_max"]
            assert largest < 1e-6 if budget in how else largest > 1e-2


def test_the_page_says_what_the_scores_say(study):
    out, page = study
    text = page.read_text()
    scores = read_record(out / "runs" / "evaluation" / f"{module.PLAIN}-none" / "scores.json", EVALUATION)
    r2 = [v["r2"] for v in scores["models"]["emulator"].values() if v["r2"] is not None]
    row = next(line for line in text.splitlines() if line.startswith("| none |"))
    assert f"| {sum(r2) / len(r2):.4f} | +0.0000 |" in row
    assert f"{scores['budgets']['energy']['emulator']['rms']:.2g}" in row
    assert f"{scores['samples']:,} columns of its test months" in text
    assert [name for name in INPUTS if f"\n| {name} |" in text] == list(INPUTS)
    assert "nan" not in text and "None" not in text
    assert len(re.findall(r"^\| (none|energy|water|both)", text, re.M)) == len(CLOSURES)


def test_the_warmer_store_is_of_the_same_host(tmp_path, monkeypatch):
    asked = {}

    def host(name, **settings):
        def generate(path, sampling):
            asked.update(name=name, settings=settings, path=path, sampling=sampling)

        return SimpleNamespace(generate=generate)

    monkeypatch.setattr(stores, "host", host)
    monkeypatch.setattr(
        stores, "host_of", lambda held: SimpleNamespace(parameters={"truncation": 31, "sst": "observed"})
    )
    given = {"spin_up_days": 3, "evaluation_days": 365, "stride": 7, "seed": 2}
    held = SimpleNamespace(spec=SimpleNamespace(host="speedy", provenance={"generate": given}))
    assert stores.warmer_store(held, tmp_path) == tmp_path / "warmer.zarr" == asked["path"]
    assert asked["name"] == "speedy" and asked["settings"] == {"truncation": 31, "sst": "+4K"}
    assert (asked["sampling"].evaluation_days, asked["sampling"].stride, asked["sampling"].seed) == (120, 7, 2)
