"""The column store: bit for bit what was appended, readable by xarray, and clear about every kind of damage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.formats import STORE, VERSIONS
from subgrid.columns import Variable, VariableSet, open_store, variable_set
from subgrid.columns.variables import channel_labels

ARRAYS = ("inputs", "history", "targets")
MARKS = ("time", "column", "weight")


@pytest.fixture
def copy(tiny_store, tmp_path):
    """A copy of the tiny store that a test may damage."""
    return shutil.copytree(tiny_store.path, tmp_path / "copy.zarr")


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_every_row_is_read_back_bit_for_bit(tiny_store, split_rows):
    for name, rows in split_rows.items():
        split = tiny_store[name]
        assert split.samples == len(rows["time"])
        for array in ARRAYS:
            blocks = [split.read(array, b) for b in range(split.blocks)]
            assert [len(b) for b in blocks] == [split.rows(b) for b in range(split.blocks)]
            np.testing.assert_array_equal(np.concatenate(blocks), rows[array])
        for mark in MARKS:
            np.testing.assert_array_equal(split.mark(mark), rows[mark])


def test_the_last_block_is_short(tiny_store):
    split = tiny_store["train"]
    assert (split.blocks, split.rows(0), split.rows(11)) == (12, 256, 3000 - 11 * 256)


def test_the_store_knows_its_grid_and_provenance(tiny_store, column_grid):
    np.testing.assert_array_equal(tiny_store.grid.area, column_grid.area)
    assert tiny_store.grid.vertical == column_grid.vertical
    assert (tiny_store.spec.time_step, tiny_store.spec.host) == (2400.0, "speedy")
    assert tiny_store.spec.provenance == {"made": "by the tests"}
    assert tiny_store.split_names == ["test", "train", "validation"]
    with pytest.raises(UsageError, match="no split 'trian'; it has test, train, validation"):
        tiny_store["trian"]


def test_xarray_opens_a_split_as_it_is(tiny_store, split_rows):
    dataset = xr.open_zarr(tiny_store.path / "validation", consolidated=False)
    rows = split_rows["validation"]
    for array in ARRAYS:
        assert dataset[array].dims == ("sample", f"{array}_channel")
        labels = channel_labels(tiny_store.spec.arrays[array], 8)
        assert dataset[f"{array}_channel"].values.tolist() == labels
        np.testing.assert_array_equal(dataset[array].values, rows[array])
    one = dataset["targets"].sel(targets_channel="temperature_tendency_7")
    np.testing.assert_array_equal(one.values, rows["targets"][:, 7])
    assert dataset["time"].dtype.kind == "M"
    np.testing.assert_array_equal(dataset["time"].values, rows["time"].astype("datetime64[s]"))
    np.testing.assert_array_equal(dataset["weight"].values, rows["weight"])


def test_statistics_equal_two_pass_float64(tiny_store, split_rows):
    for array in ARRAYS:
        exact = split_rows["train"][array].astype(np.float64)
        found = tiny_store["train"].statistics(array)
        size = np.abs(exact).max(0)
        np.testing.assert_allclose(found["mean"], exact.mean(0), rtol=1e-12, atol=1e-14 * size.max())
        np.testing.assert_allclose(found["std"], exact.std(0), rtol=1e-9, atol=0)
        np.testing.assert_array_equal(found["min"], exact.min(0))
        np.testing.assert_array_equal(found["max"], exact.max(0))


def test_read_variables_picks_channels_across_arrays(tiny_store, split_rows):
    wanted = variable_set("speedy_expanded").inputs
    rows = split_rows["test"]
    found = tiny_store["test"].read_variables(wanted, 1)
    labels = channel_labels(wanted, 8)
    held = {}
    for array in ("inputs", "history"):
        for i, label in enumerate(channel_labels(tiny_store.spec.arrays[array], 8)):
            held[label] = rows[array][256:512, i]
    np.testing.assert_array_equal(found, np.stack([held[label] for label in labels], axis=1))
    assert found.shape == (256, 175)
    statistics = tiny_store["test"].variable_statistics(wanted)
    low = [np.concatenate([rows["inputs"], rows["history"]], axis=1).min(0)]
    assert sorted(statistics["min"].tolist()) == sorted(low[0].astype(np.float64).tolist())


def test_a_sum_of_stored_variables_is_read_and_its_statistics_taken(write_store, make_rows, make_spec, tmp_path):
    kept = variable_set("speedy_keep_diffusion")
    tendencies = [v for v in variable_set("speedy").targets if v.kind == "profile"]
    terms = tuple(replace(v, name=f"{v.name}_diffusion") for v in tendencies)
    rows = make_rows(600, seed=9)
    rows["terms"] = np.random.default_rng(9).normal(0.0, 1e-5, (600, 32)).astype(np.float32)
    arrays = {**make_spec().arrays, "terms": terms}
    store = write_store(tmp_path / "terms.zarr", {"train": rows}, arrays=arrays)
    split = store["train"]
    found = np.concatenate([split.read_variables(kept.targets, block) for block in range(split.blocks)])
    expected = rows["targets"].astype(np.float64)
    expected[:, :32] -= rows["terms"]
    assert found.dtype == np.float32 and split.read_variables(kept.targets, 0).flags.c_contiguous
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    statistics = split.variable_statistics(kept.targets)
    np.testing.assert_allclose(statistics["std"], expected.std(0), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(statistics["max"], expected.max(0), rtol=1e-6)


def test_the_terms_that_a_sum_needs_are_named(tiny_store):
    with pytest.raises(UsageError, match="'speedy_keep_diffusion': it lacks temperature_tendency_diffusion, specific"):
        tiny_store.variable_set("speedy_keep_diffusion")


def test_require_names_every_variable_that_is_lacking(write_store, make_rows, make_spec, tmp_path):
    arrays = {k: v for k, v in make_spec().arrays.items() if k != "history"}
    rows = {k: v for k, v in make_rows(20).items() if k != "history"}
    store = write_store(tmp_path / "small.zarr", {"train": rows}, arrays=arrays)
    store.require(variable_set("speedy"))
    with pytest.raises(UsageError, match=r"does not hold variable set 'speedy_expanded': it lacks .*clat, slat"):
        store.variable_set("speedy_expanded")
    other = VariableSet("mine", (Variable("vorticity", "profile", "1/s"),), (Variable("rain", "scalar", "mm"),))
    with pytest.raises(UsageError, match="lacks vorticity, rain"):
        store.require(other)
    with pytest.raises(UsageError, match="lacks the variable 'vorticity'"):
        store["train"].read_variables(other.inputs, 0)


def test_info_is_json_and_counts(tiny_store):
    info = json.loads(json.dumps(tiny_store.info()))
    assert info["splits"]["train"]["samples"] == 3000
    assert info["splits"]["train"]["first"] == "2000-01-01T00:00:00"
    assert info["format_version"] == VERSIONS[STORE]
    assert info["bytes"] > 3000 * (45 + 130 + 44) * 4


# Damage


def test_a_missing_store_is_refused(tmp_path):
    with pytest.raises(SubgridError, match=r"absent does not exist.*data generate"):
        open_store(tmp_path / "absent")


def test_an_unfinished_store_is_refused_as_such(tmp_path):
    (tmp_path / "s.zarr.partial").mkdir()
    with pytest.raises(SubgridError, match=r"is unfinished \(s\.zarr\.partial is there\)"):
        open_store(tmp_path / "s.zarr")


def test_a_foreign_folder_a_foreign_zarr_group_and_a_file_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file"):
        with pytest.raises(SubgridError, match=f"{name} is not a finished column store"):
            open_store(tmp_path / name)
    xr.Dataset({"x": 1}).to_zarr(tmp_path / "foreign", consolidated=False)
    with pytest.raises(SubgridError, match="foreign does not describe a column store"):
        open_store(tmp_path / "foreign")


def test_another_format_version_names_both(copy):
    change_json(copy / "zarr.json", lambda c: c["attributes"].update(format_version=99))
    with pytest.raises(SubgridError, match=f"version 99, this subgrid reads version {VERSIONS[STORE]}"):
        open_store(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attributes": 3}'])
@pytest.mark.parametrize("where", ["", "train"])
def test_a_damaged_description_is_refused_by_name(copy, where, text):
    path = copy / where / "zarr.json"
    path.write_text(text)
    with pytest.raises(SubgridError, match=r"zarr\.json"):
        open_store(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [("block", 0), ("grid", {}), ("arrays", []), ("time_step", "x"), ("splits", None), ("splits", ["../x"])],
)
def test_a_damaged_attribute_is_refused(copy, key, value):
    change_json(copy / "zarr.json", lambda c: c["attributes"].update({key: value}))
    with pytest.raises(SubgridError):
        open_store(copy)


@pytest.mark.parametrize("samples", [None, "x", -3])
def test_a_damaged_number_of_samples_is_refused(copy, samples):
    change_json(copy / "train" / "zarr.json", lambda c: c["attributes"].update(samples=samples))
    with pytest.raises(SubgridError, match="train: damaged split description"):
        open_store(copy)


def test_a_missing_chunk_is_named(copy):
    (copy / "train" / "inputs" / "c" / "3" / "0").unlink()
    with pytest.raises(SubgridError, match=r"train/inputs/c/3/0 is missing"):
        open_store(copy)


@pytest.mark.parametrize("chunk", ["inputs/c/2/0", "weight/c/1"])
def test_a_truncated_chunk_is_named_on_opening_and_on_reading(copy, chunk):
    store = open_store(copy)
    path = copy / "train" / chunk
    size = path.stat().st_size
    with path.open("rb+") as handle:
        handle.truncate(size - 4)
    with pytest.raises(SubgridError, match=rf"{chunk} is truncated \({size - 4} of {size} bytes\)"):
        open_store(copy)
    array, block = chunk.split("/")[0], int(chunk.split("/")[2])
    with pytest.raises(SubgridError, match=f"{chunk} is truncated"):
        store["train"].read(array, block)
    path.unlink()
    with pytest.raises(SubgridError, match=f"{chunk} is missing"):
        store["train"].read(array, block)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_in_a_chunk_file_is_named_and_counted_when_read(copy, value):
    path = copy / "train" / "inputs" / "c" / "1" / "0"
    chunk = np.fromfile(path, "<f4").reshape(256, 45)
    chunk[[3, 9], 8] = value  # specific_humidity_0
    chunk[5, 32] = value  # surface_pressure
    chunk.tofile(path)
    store = open_store(copy)
    with pytest.raises(SubgridError, match=r"specific_humidity \(2 of 2048\), surface_pressure \(1 of 256\)"):
        store["train"].read("inputs", 1)
    store["train"].read("inputs", 0)


def test_missing_statistics_are_refused(copy):
    shutil.rmtree(copy / "train" / "inputs_mean")
    with pytest.raises(SubgridError, match="statistics"):
        open_store(copy)["train"].statistics("inputs")
