"""The example plugin, installed as a user would: its names are listed, and one emulator trained with all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from subgrid.columns.variables import variable_set

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """``python(*words)``: what Python prints where the plugin is installed."""
    site = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(PLUGIN)], check=True, capture_output=True, text=True)
    folder = tmp_path_factory.mktemp("work")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(SOURCES)])}

    def run(*words: str) -> str:
        found = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=folder, env=environment)
        assert found.returncode == 0, found.stderr
        return found.stdout

    return run


@pytest.fixture(scope="module")
def verb(python):
    """``verb(*words)``: what subgrid prints where the plugin is installed."""
    return lambda *words: python("-m", "subgrid.cli.app", *words)


def test_its_names_are_listed(verb):
    found = json.loads(verb("list", "--json"))
    offered = {
        "architectures": "linear",
        "recipes": "momentum",
        "variables": "speedy_latitude",
        "hosts": "speedy_t31",
    }
    for kind, name in offered.items():
        assert name in found[kind] and len(found[kind]) > 1


def test_an_emulator_of_its_parts_is_trained_scored_and_exported(verb, tiny_store):
    chosen = ("architecture=linear", "recipe=momentum", "variables=speedy_latitude")
    words = (f"data={tiny_store.path}", "out=run", "recipe.epochs=3", "recipe.batch_size=256", "precision=32-true")
    metrics = json.loads(verb("train", *words, *chosen, "--json"))
    losses = [epoch["val_loss"] for epoch in metrics["losses"]]
    assert losses[-1] < losses[0]
    assert json.loads(verb("evaluate", "run", "--json"))["models"]["emulator"]
    exported = json.loads(verb("export", "run", "--json"))
    own = variable_set("speedy").inputs
    assert exported["n_in"] == sum(v.width(8) for v in own) + 2  # and clat, slat
    assert exported["same_batch"] == 0.0


def test_its_host_has_its_own_name_and_defaults(python):
    code = "from subgrid import host; h = host('speedy_t31'); print(h.name, h.parameters['truncation'])"
    assert python("-c", code).split() == ["speedy_t31", "31"]


def test_its_host_checks_settings_before_it_runs(verb):
    with pytest.raises(AssertionError, match=r"unknown option 'host.truncatoin'; did you mean host.truncation"):
        verb("data", "generate", "host=speedy_t31", "out=store.zarr", "host.truncatoin=21")
