"""The loader: every row once an epoch, an order of seed and epoch alone, and resume in the middle of an epoch."""

from __future__ import annotations

import threading
from itertools import chain, islice

import numpy as np
import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns import ColumnLoader, variable_set

SPEEDY = variable_set("speedy")


@pytest.fixture(scope="module")
def split(tmp_path_factory, write_store, make_rows):
    """1000 rows in blocks of 64 (the last one of 40), each weight its own row number."""
    rows = make_rows(1000, seed=8)
    rows["weight"] = np.arange(1000, dtype=np.float32)
    return write_store(tmp_path_factory.mktemp("loader") / "s.zarr", {"train": rows}, block=64)["train"]


@pytest.fixture(scope="module")
def make(split):
    def loader(batch_size=100, **settings):
        return ColumnLoader(split, SPEEDY, batch_size, **settings)

    return loader


def row_numbers(batches):
    return [batch[2].astype(int).tolist() for batch in batches]


def joined(lists):
    return list(chain.from_iterable(lists))


SHAPES = [(100, 1), (100, 4), (64, 3), (7, 5), (333, 2), (1000, 32), (65, 16), (999, 3)]


@pytest.mark.parametrize(("batch_size", "buffer_blocks"), SHAPES)
def test_every_row_comes_once_an_epoch(make, batch_size, buffer_blocks):
    loader = make(batch_size, buffer_blocks=buffer_blocks, drop_last=False)
    batches = row_numbers(loader)
    assert len(batches) == len(loader) == -(-1000 // batch_size)
    assert {len(b) for b in batches[:-1]} <= {batch_size}
    assert sorted(joined(batches)) == list(range(1000))


@pytest.mark.parametrize(("batch_size", "buffer_blocks"), SHAPES)
def test_drop_last_gives_full_batches_of_different_rows(make, batch_size, buffer_blocks):
    loader = make(batch_size, buffer_blocks=buffer_blocks)
    batches = row_numbers(loader)
    assert len(batches) == len(loader) == 1000 // batch_size
    assert {len(b) for b in batches} == {batch_size}
    assert len(set(joined(batches))) == batch_size * len(batches)


def test_rows_of_inputs_targets_and_weights_belong_together(make, split):
    x = np.concatenate([split.read("inputs", b) for b in range(split.blocks)])
    y = np.concatenate([split.read("targets", b) for b in range(split.blocks)])
    for inputs, targets, weight in make(70, buffer_blocks=3):
        row = weight.astype(int)
        np.testing.assert_array_equal(inputs, x[row])
        np.testing.assert_array_equal(targets, y[row])


def test_no_seed_reads_in_stored_order(make):
    assert joined(row_numbers(make(90, seed=None, buffer_blocks=2, drop_last=False))) == list(range(1000))


def test_order_is_one_of_seed_and_epoch(make):
    first, again, other = make(seed=1), make(seed=1), make(seed=2)
    epochs = [row_numbers(first) for _ in range(3)]
    assert epochs == [row_numbers(again) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert row_numbers(other) != epochs[0]
    assert first.epoch == 3


@pytest.mark.parametrize("buffer_blocks", [1, 3, 100])
def test_order_does_not_depend_on_what_the_buffer_still_holds(make, buffer_blocks):
    used = make(buffer_blocks=buffer_blocks)
    for _ in range(2):
        list(used)
    fresh = make(buffer_blocks=buffer_blocks)
    fresh.load_state_dict({"epoch": 2, "batch": 0, "seed": 0})
    assert row_numbers(used) == row_numbers(fresh)


def test_two_iterations_at_once_do_not_disturb_each_other(make):
    """The buffer's memory is used again and again, but never by two iterations."""
    expected = list(make(70, buffer_blocks=3))
    loader = make(70, buffer_blocks=3)
    list(loader)
    for epoch in range(2):
        loader.load_state_dict({"epoch": 0, "batch": 0, "seed": 0})
        first = iter(loader)
        begun = [next(first) for _ in range(epoch + 1)]
        loader.load_state_dict({"epoch": 0, "batch": 0, "seed": 0})
        second = list(loader)
        found = begun + list(first)
        for batches in (second, found):
            for a, b in zip(batches, expected, strict=True):
                for x, y in zip(a, b, strict=True):
                    np.testing.assert_array_equal(x, y)


def test_batches_are_the_callers_to_change(make):
    expected, changed = list(make(70, buffer_blocks=3)), make(70, buffer_blocks=3)
    for epoch in range(2):
        changed.load_state_dict({"epoch": 0, "batch": 0, "seed": 0})
        for batch, wanted in zip(changed, expected, strict=True):
            for x, y in zip(batch, wanted, strict=True):
                np.testing.assert_array_equal(x, y, err_msg=f"epoch {epoch}")
                x[...] = np.nan


def test_an_iteration_left_early_stops_its_threads(make):
    loader = make(10)
    batches = iter(loader)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_a_damaged_block_is_named_by_the_iteration(tmp_path, write_store, make_rows):
    store = write_store(tmp_path / "s.zarr", {"train": make_rows(200)}, block=64)
    chunk = tmp_path / "s.zarr" / "train" / "targets" / "c" / "2" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    with pytest.raises(SubgridError, match=r"targets/c/2/0 is truncated"):
        list(ColumnLoader(store["train"], SPEEDY, 50))


def test_rows_are_mixed_across_the_blocks_of_a_buffer(make):
    blocks = {row // 64 for row in row_numbers(make(100, buffer_blocks=100))[0]}
    assert len(blocks) > 8


@pytest.mark.parametrize(("batch_size", "buffer_blocks"), SHAPES)
@pytest.mark.parametrize("drop_last", [True, False])
def test_a_resumed_epoch_gives_the_same_remaining_batches(make, batch_size, buffer_blocks, drop_last):
    settings = {"buffer_blocks": buffer_blocks, "drop_last": drop_last}
    whole = make(batch_size, **settings)
    expected = list(whole) + list(whole)
    for given in sorted({0, 1, 2, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 1}):
        if given < 0 or given > 2 * len(whole):
            continue
        first = make(batch_size, **settings)
        turns = iter(first)
        taken = 0
        while taken < given:
            for _ in islice(turns, given - taken):
                taken += 1
            turns = iter(first)
        second = make(batch_size, **settings)
        second.load_state_dict(first.state_dict())
        rest = list(second)
        while len(rest) < len(expected) - given:
            rest += list(second)
        for found, wanted in zip(rest, expected[given:], strict=False):
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(a, b)


def test_the_last_batch_moves_to_the_next_epoch(make):
    """A trainer that knows the length never asks for the end of the iteration."""
    loader = make()
    batches = iter(loader)
    for _ in range(len(loader)):
        next(batches)
    assert loader.state_dict() == {"epoch": 1, "batch": 0, "seed": 0}


def test_a_state_of_another_seed_is_refused(make):
    with pytest.raises(UsageError, match="saved with seed 0, not 3"):
        make(seed=3).load_state_dict(make().state_dict())


def test_max_samples_rounds_up_to_whole_blocks(make):
    loader = make(50, max_samples=100, drop_last=False)
    assert loader.samples == 128
    assert sorted(joined(row_numbers(loader))) == list(range(128))
    assert make(50, max_samples=10_000).samples == 1000


@pytest.mark.parametrize("batch_size", [0, -5])
def test_a_batch_size_that_is_not_positive_is_refused(make, batch_size):
    with pytest.raises(UsageError, match="must be positive"):
        make(batch_size)


def test_a_buffer_of_no_blocks_is_refused(make):
    with pytest.raises(UsageError, match=r"buffer_blocks .* must be positive"):
        make(buffer_blocks=0)


def test_a_batch_larger_than_the_split_is_refused_when_it_must_be_full(make):
    with pytest.raises(UsageError, match="has 1000 samples, fewer than one batch of 1001: lower the batch size"):
        make(1001)
    assert len(make(1001, drop_last=False)) == 1


def test_batches_are_float32(make):
    assert {part.dtype for part in next(iter(make()))} == {np.dtype("float32")}


@pytest.mark.parametrize(("batch_size", "buffer_blocks"), [(30, 2), (64, 1), (50, 100)])
def test_joined_splits_are_read_as_one(tmp_path, write_store, make_rows, batch_size, buffer_blocks):
    first, second = make_rows(150, seed=1), make_rows(100, seed=2)
    first["weight"], second["weight"] = np.arange(150.0), np.arange(150.0, 250.0)
    store = write_store(tmp_path / "s.zarr", {"train": first, "extra": second}, block=64)
    both = store.joined("train", "extra")
    assert (both.samples, both.blocks, [both.rows(b) for b in range(5)]) == (250, 5, [64, 64, 22, 64, 36])
    loader = ColumnLoader(both, SPEEDY, batch_size, buffer_blocks=buffer_blocks, drop_last=False)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert sorted(joined(row_numbers(batches))) == list(range(250))
    every = np.concatenate([first["targets"], second["targets"]])
    for _, targets, weight in batches:
        np.testing.assert_array_equal(targets, every[weight.astype(int)])
    assert store.joined("train").samples == 150


@pytest.mark.parametrize(("batch_size", "buffer_blocks"), [(100, 1), (6, 5), (332, 2), (64, 3), (998, 3), (334, 32)])
@pytest.mark.parametrize("drop_last", [True, False])
def test_parts_of_a_batch_are_together_the_batch(make, batch_size, buffer_blocks, drop_last):
    settings = {"buffer_blocks": buffer_blocks, "drop_last": drop_last, "seed": 3}
    whole = make(batch_size, **settings)
    parts = [make(batch_size, shard=(k, 2), **settings) for k in (0, 1)]
    for _ in range(2):  # a second epoch, which begins where the first ended
        wanted = row_numbers(whole)
        found = [row_numbers(part) for part in parts]
        assert [len(f) for f in found] == [len(wanted)] * 2 == [len(whole)] * 2
        assert [a + b for a, b in zip(*found, strict=True)] == wanted
        assert {part.state_dict()["epoch"] for part in parts} == {whole.state_dict()["epoch"]}
    assert {len(b) for f in found for b in f[:-1]} <= {batch_size // 2}


def test_a_part_goes_on_in_the_middle_of_an_epoch(make):
    first = make(100, shard=(1, 4), buffer_blocks=2)
    begun = list(islice(iter(first), 3))
    later = make(100, shard=(1, 4), buffer_blocks=2)
    later.load_state_dict({**first.state_dict(), "batch": 3})
    assert row_numbers([*begun, *later]) == row_numbers(make(100, shard=(1, 4), buffer_blocks=2))


def test_a_batch_that_cannot_be_shared_is_refused(make):
    with pytest.raises(UsageError, match=r"batch_size \(100\) must be a multiple of the 3 processes"):
        make(100, shard=(0, 3))
