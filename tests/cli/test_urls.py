"""Verbs with stores on object storage: ``data=s3://...`` stands wherever a path would."""

from __future__ import annotations

import json
import sys

import pytest

from subgrid.cli.app import main


def run(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["subgrid", "--quiet", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_copy_look_at_train_and_score_from_object_storage(s3, tiny_store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    there = f"{s3}/store.zarr"
    assert run(["data", "copy", str(tiny_store.path), there, "--verify", "--json"], monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True
    assert run(["data", "info", there, "--json"], monkeypatch) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["splits"] == tiny_store.info()["splits"] and info["path"] == there
    small = ["recipe.epochs=1", "recipe.batch_size=256", "precision=32-true", "architecture.widths=[16]"]
    for data, out in ((there, "remote"), (str(tiny_store.path), "local")):
        assert run(["train", f"data={data}", f"out={out}", *small], monkeypatch) == 0
        assert run(["evaluate", out], monkeypatch) == 0  # the store that it was trained on
    scores = [json.loads((tmp_path / out / "evaluation" / "scores.json").read_text()) for out in ("remote", "local")]
    assert scores[0]["models"] == scores[1]["models"]
    assert not (tmp_path / "s3:").exists()


def test_a_bucket_that_is_not_there(s3, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "data=s3://no-such-bucket/store.zarr", "out=run"], monkeypatch) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "s3://no-such-bucket/store.zarr" in said and "bucket does not exist" in said
    assert list(tmp_path.iterdir()) == []
