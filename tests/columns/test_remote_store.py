"""Stores at URLs: the same rows bit for bit as from a folder, and clear errors."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.places import RemotePath, file_sizes
from subgrid.columns import ColumnLoader, open_store, variable_set
from subgrid.columns.copying import copy_store

ARRAYS = ("inputs", "history", "targets")


@pytest.fixture(params=["s3", "memory", "web"])
def remote(request, tiny_store, tmp_path):
    """The tiny store at a URL."""
    given = request.getfixturevalue(request.param)
    if request.param == "web":
        shutil.copytree(tiny_store.path, tmp_path / "store.zarr")
        return f"{given.url}/store.zarr"
    copy_store(tiny_store.path, f"{given}/store.zarr")
    return f"{given}/store.zarr"


def test_every_block_and_statistic_is_that_of_the_folder(remote, tiny_store):
    store = open_store(remote)
    assert store.split_names == tiny_store.split_names
    assert store.spec.attributes() == tiny_store.spec.attributes()
    for name in store.split_names:
        here, there = tiny_store[name], store[name]
        for array in ARRAYS:
            for block in range(here.blocks):
                np.testing.assert_array_equal(there.read(array, block), here.read(array, block))
            for field, values in there.statistics(array).items():
                np.testing.assert_array_equal(values, here.statistics(array)[field])
        np.testing.assert_array_equal(there.mark("time"), here.mark("time"))


def test_the_loader_gives_the_same_batches(remote, tiny_store):
    chosen = variable_set("speedy")
    here, there = (
        ColumnLoader(store["train"], chosen, 128, seed=3, buffer_blocks=4) for store in (tiny_store, open_store(remote))
    )
    count = 0
    for a, b in zip(here, there, strict=True):
        count += 1
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert count == len(here)


def test_info_says_the_same_but_for_the_place(remote, tiny_store):
    here, there = tiny_store.info(), open_store(remote).info()
    assert there.pop("path") == remote and here.pop("path")
    bytes_here, bytes_there = here.pop("bytes"), there.pop("bytes")
    assert there == here
    if remote.startswith("http"):  # of the blocks alone
        assert 0.8 * bytes_here < bytes_there < bytes_here
    else:
        assert bytes_there == bytes_here


def test_what_is_not_a_store_is_told(s3, memory, web):
    for url in (f"{s3}/none", f"{memory}/none", f"{web.url}/none"):
        with pytest.raises(SubgridError, match=f"{url} is not a finished column store"):
            open_store(url)
    with pytest.raises(UsageError, match="unknown protocol 's4'"):
        open_store("s4://bucket/store.zarr")


def test_a_missing_or_cut_block_is_found_at_once_where_files_are_listed(s3, tiny_store):
    copy_store(tiny_store.path, f"{s3}/a")
    block = RemotePath(f"{s3}/a") / "train/targets/c/3/0"
    held = block.read_bytes()
    block.write_bytes(held[:-4])
    with pytest.raises(SubgridError, match=rf"targets/c/3/0 is truncated \({len(held) - 4} of {len(held)} bytes\)"):
        open_store(f"{s3}/a")
    block.unlink()
    with pytest.raises(SubgridError, match=r"targets/c/3/0 is missing"):
        open_store(f"{s3}/a")


def test_and_when_it_is_read_where_they_are_not(web, tiny_store, tmp_path):
    shutil.copytree(tiny_store.path, tmp_path / "a")
    block = tmp_path / "a/train/targets/c/3/0"
    held = block.read_bytes()
    block.write_bytes(held[:-4])
    split = open_store(f"{web.url}/a")["train"]
    with pytest.raises(SubgridError, match=r"targets/c/3/0 is truncated"):
        split.read("targets", 3)
    block.unlink()
    with pytest.raises(SubgridError, match=r"targets/c/3/0 is missing"):
        split.read("targets", 3)
    np.testing.assert_array_equal(split.read("targets", 2), tiny_store["train"].read("targets", 2))


def test_a_damaged_description_names_the_url(s3, tiny_store):
    copy_store(tiny_store.path, f"{s3}/a")
    root = RemotePath(f"{s3}/a/zarr.json")
    content = json.loads(root.read_text())
    content["attributes"]["format_version"] = 99
    root.write_bytes(json.dumps(content).encode())
    with pytest.raises(SubgridError, match=f"{s3}/a has column store format version 99"):
        open_store(f"{s3}/a")
    root.write_bytes(b"{")
    with pytest.raises(SubgridError, match=f"{s3}/a/zarr.json is not valid JSON"):
        open_store(f"{s3}/a")


def test_statistics_that_are_damaged_name_the_url(s3, tiny_store):
    copy_store(tiny_store.path, f"{s3}/a")
    for name in file_sizes(RemotePath(f"{s3}/a/train/inputs_std")):
        (RemotePath(f"{s3}/a/train/inputs_std") / name).unlink()
    with pytest.raises(SubgridError, match=f"{s3}/a/train: damaged statistics 'inputs_std'"):
        open_store(f"{s3}/a")["train"].statistics("inputs")


def test_what_only_a_folder_gives_says_to_copy(memory, tiny_store):
    copy_store(tiny_store.path, f"{memory}/a.zarr")
    store = open_store(f"{memory}/a.zarr")
    with pytest.raises(UsageError, match=rf"not on this machine: copy it first, `subgrid data copy {memory}/a.zarr a"):
        store.local()
    assert tiny_store.local() == tiny_store.path
