"""Whatever words, store metadata or emulator description: done, or one clear refusal; never another exception."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subgrid.base.errors import SubgridError
from subgrid.cli import verbs
from subgrid.columns import open_store
from subgrid.coupling import CoupleConfig
from subgrid.emulator import load_emulator

#: Settings of the real configs, words that nearly are, and junk.
KEYS = {
    "train": "data out architecture recipe size variables seed precision perturbed max_train_samples buffer_blocks "
    "log_every recipe.epochs recipe.batch_size recipe.learning_rate recipe.loss recipe.warmup emulator emulator.inputs "
    "emulator.clip_margin emulator.water architecture.widths architecture.channels recipe.name hydra _target_",
    "generate": "out host host.truncation host.levels host.time_step_minutes host.start stride fraction seed terms "
    "train_days evaluation_days gap_days spin_up_days perturbed_fraction host.name",
    "couple": "data out start days bridge keep timings emulator emulator.clip_margin emulator.water emulator.name",
    "evaluate": "data out split",
    "export": "data name pcols licence trust emulator.top emulator.mask emulator.name",
}
VALUES = (
    "0",
    "1",
    "-1",
    "3",
    "0.5",
    "-0.0",
    "1e308",
    "1e999",
    "nan",
    "inf",
    "-inf",
    "true",
    "False",
    "null",
    "~",
    "''",
    '""',
    "[]",
    "[16,16]",
    "[[]]",
    "{}",
    "{a:1}",
    "{_target_:os.system}",
    "mlp",
    "unet",
    "standard",
    "raw",
    "small",
    "paper",
    "speedy",
    "21",
    "31",
    "2000-10-03",
    "2000-13-45",
    "99999999999999999999999",
    "???",
    "${seed}",
    "${oc.env:A}",
    "a,b",
    "a=b",
    "*.yaml",
    "../../x",
    "/etc/passwd",
    "é",
    "日本",
    "\\",
    "'",
    '"',
    "[",
    "}",
    ":",
    ";",
    "@",
    "!!python/object:os.system",
)
BUILD: dict[str, Callable[[list[str]], Any]] = {
    "train": verbs.train_settings,
    "generate": verbs.generate_settings,
    "couple": lambda words: CoupleConfig(emulator="run", **_without_out(verbs.couple_settings(words))),
    "evaluate": verbs.evaluate_settings,
    "export": lambda words: verbs.export_settings("run", "ftorch", [w for w in words if not w.startswith("out=")]),
}
QUICK = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["profile", "../..", "temperature", "float64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def _without_out(words: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in words.items() if key != "out"}


def refused_or_done(work: Callable[[], Any]) -> None:
    """Run ``work``; a refusal is one line."""
    try:
        work()
    except SubgridError as error:
        assert str(error).strip() and "\n" not in str(error), str(error)


@pytest.mark.parametrize("verb", KEYS)
@settings(QUICK, max_examples=60)
@given(data=st.data())
def test_words(verb, data):
    key = st.sampled_from(KEYS[verb].split()) | st.text(max_size=6)
    value = st.sampled_from(VALUES) | st.text(max_size=6)
    word = st.builds("{}={}".format, key, value) | st.text(max_size=8)
    words = [f"data={data.draw(value)}", "out=x", *data.draw(st.lists(word, max_size=3))]
    refused_or_done(lambda: BUILD[verb]([w for w in words if verb != "generate" or not w.startswith("data=")]))


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON tree, the first few of long lists."""
    found = [path] if path else []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


def changed(tree: Any, path: tuple[Any, ...], value: Any, drop: bool) -> Any:
    """A copy of ``tree`` with the entry at ``path`` replaced, or gone."""
    tree = copy.deepcopy(tree)
    node = tree
    for key in path[:-1]:
        node = node[key]
    if drop:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return tree


def fuzz(file: Path, data: st.DataObject, work: Callable[[], Any]) -> None:
    """Change one place of a JSON file, do the work, put it back."""
    before = file.read_text()
    tree = json.loads(before)
    path = data.draw(st.sampled_from(places(tree)))
    file.write_text(json.dumps(changed(tree, path, data.draw(JUNK), data.draw(st.booleans()))))
    try:
        refused_or_done(work)
    finally:
        file.write_text(before)


@pytest.fixture(scope="module")
def store(tiny_store, tmp_path_factory):
    return shutil.copytree(tiny_store.path, tmp_path_factory.mktemp("fuzz") / "store.zarr")


@pytest.fixture(scope="module")
def emulator(tiny_run, tmp_path_factory):
    return shutil.copytree(tiny_run / "emulator", tmp_path_factory.mktemp("fuzz") / "emulator")


@settings(QUICK, max_examples=300)
@given(data=st.data())
def test_store_metadata(store, data):
    file = store / data.draw(st.sampled_from(["zarr.json", "zarr.json", "train/zarr.json"]))

    def read():
        opened = open_store(store)
        opened.info()
        opened["train"].statistics("targets")
        opened["train"].read_variables(opened.variable_set("speedy").inputs, 0)

    fuzz(file, data, read)


@settings(QUICK, max_examples=200)
@given(data=st.data())
def test_emulator_description(emulator, data):
    fuzz(emulator / "emulator.json", data, lambda: load_emulator(emulator))
