"""Test vectors: what each case holds, raw files that any language reads, and models that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from subgrid.base.errors import SubgridError, UsageError
from subgrid.deployment import ExportConfig, export
from subgrid.deployment.vectors import (
    THREADS,
    largest_difference,
    read_vectors,
    run_vectors,
    torch_threads,
    write_vectors,
)
from subgrid.emulator import load_emulator

NAMES = ["one", "sixteen", "pcols", "grid", "padded", "zeros", "extreme"]


@pytest.fixture(scope="module")
def module(tmp_path_factory, tiny_run, tiny_store):
    out = tmp_path_factory.mktemp("export") / "model"
    export(tiny_run, out, ExportConfig(str(tiny_store.path)))
    return torch.jit.load(str(out / "model.pt"))


@pytest.fixture(scope="module")
def given(tiny_run, tiny_store):
    """Columns, ends of the training range and spreads."""
    variables = load_emulator(tiny_run).variables
    ends = tiny_store["train"].variable_statistics(variables.inputs)
    spread = tiny_store["train"].variable_statistics(variables.targets)["std"]
    return tiny_store["test"].read_variables(variables.inputs, 0), ends["min"], ends["max"], spread


@pytest.fixture(scope="module")
def folder(tmp_path_factory, module, given):
    """Vectors for chunks of 20; do not change them."""
    out = tmp_path_factory.mktemp("vectors") / "test"
    write_vectors(out, module, *given, pcols=20)
    return out


def test_the_index_names_the_cases_and_their_columns(folder):
    lines = (folder / "vectors.txt").read_text().splitlines()
    assert lines[0] == "7 45 44 1"
    sizes = [1, 16, 20, 256, 20, 20, 16]
    assert lines[1:] == [f"{name} {size}" for name, size in zip(NAMES, sizes, strict=True)]
    wanted = {f"{name}.{part}.bin" for name in NAMES for part in "xy"} | {"vectors.txt", "spread.bin"}
    assert {path.name for path in folder.iterdir()} == wanted


def test_what_is_written_is_told_and_read_back(tmp_path, module, given, folder):
    found = write_vectors(tmp_path, module, *given, pcols=20)
    vectors = read_vectors(tmp_path)
    assert found == [{"name": case.name, "columns": len(case.x)} for case in vectors.cases]
    assert vectors.threads == THREADS == 1 and np.array_equal(vectors.spread, given[3].astype(np.float32))
    for name in ("grid.x.bin", "grid.y.bin", "extreme.y.bin"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_streams_are_raw_little_endian_float32_column_after_column(folder, module, given):
    x = np.frombuffer((folder / "grid.x.bin").read_bytes(), "<f4").reshape(256, 45)
    y = np.frombuffer((folder / "grid.y.bin").read_bytes(), "<f4").reshape(256, 44)
    assert np.array_equal(x, given[0])
    with torch_threads(1), torch.inference_mode():
        assert np.array_equal(module(torch.from_numpy(x.copy())).numpy(), y)


def test_padded_and_zero_rows_are_answered_with_zeros(folder):
    cases = {case.name: case for case in read_vectors(folder).cases}
    assert not cases["zeros"].x.any() and not cases["zeros"].y.any()
    padded = cases["padded"]
    assert padded.x[:15].any(axis=1).all() and not padded.x[15:].any() and not padded.y[15:].any()
    assert np.array_equal(padded.y[:15], cases["pcols"].y[:15])


def test_extreme_rows_are_corners_of_the_training_range_each_with_its_opposite(folder, given):
    _, low, high, _ = given
    x = next(case.x for case in read_vectors(folder).cases if case.name == "extreme")
    low, high = low.astype(np.float32), high.astype(np.float32)
    assert ((x == low) | (x == high)).all() and len(np.unique(x, axis=0)) == 16
    assert np.array_equal(x[0], low) and np.array_equal(x[1], high)
    assert np.array_equal(x[2::2][0][::2], high[::2]) and np.array_equal(x[2][1::2], low[1::2])
    for one, other in zip(x[::2], x[1::2], strict=True):
        assert np.array_equal(one.astype(np.float64) + other, low.astype(np.float64) + high)


def test_fewer_columns_than_a_chunk_are_repeated(tmp_path, module, given):
    write_vectors(tmp_path, module, given[0][:3], *given[1:], pcols=8)
    cases = {case.name: case for case in read_vectors(tmp_path).cases}
    assert np.array_equal(cases["pcols"].x, given[0][[0, 1, 2, 0, 1, 2, 0, 1]])
    assert len(cases["sixteen"].x) == 16 and len(cases["grid"].x) == 3


def test_the_number_of_threads_is_as_it_was(tmp_path, module, given):
    before = torch.get_num_threads()
    with torch_threads(2):
        write_vectors(tmp_path, module, *given)
        run_vectors(module, tmp_path)
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), torch_threads(2):
        raise KeyError
    assert torch.get_num_threads() == before


def test_the_same_model_gives_the_same_answers(folder, module):
    found = run_vectors(module, folder)
    assert [one["name"] for one in found] == NAMES and found[3]["columns"] == 256
    assert all(one["max_relative_difference"] == 0.0 for one in found)


class _Changed(nn.Module):
    """A model whose answers differ: by ``factor``, in the channel ``channel`` alone."""

    def __init__(self, module, factor: float, channel: int) -> None:
        super().__init__()
        self.module, self.factor, self.channel = module, factor, channel

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(x)
        y[:, self.channel] = y[:, self.channel] * self.factor
        return y


def test_another_model_is_measured_in_spreads(folder, module, given):
    channel = int(np.flatnonzero(given[3] > 0)[0])
    found = run_vectors(_Changed(module, 1.5, channel), folder)
    cases = {case.name: case for case in read_vectors(folder).cases}
    wanted = 0.5 * np.abs(cases["sixteen"].y[:, channel]).max() / given[3][channel]
    assert found[1]["max_relative_difference"] == pytest.approx(wanted, rel=1e-5)
    assert found[5]["max_relative_difference"] == 0.0  # zeros
    narrow = run_vectors(lambda x: module(x)[:, 1:], folder)
    assert all(one["max_relative_difference"] == np.inf for one in narrow)


def test_an_output_without_spread_must_be_equal():
    one, spread = np.ones((3, 2), np.float32), np.array([2.0, 0.0])
    assert largest_difference(one, one, spread) == 0.0
    assert largest_difference(one + np.float32([0.5, 0.0]), one, spread) == 0.25
    assert largest_difference(one + np.float32([0.0, 1e-6]), one, spread) == np.inf
    assert largest_difference(one * np.nan, one, spread) == largest_difference(one, one * np.inf, spread) == np.inf


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x / (x - 3.0), "the case 'extreme' is not finite"),
        (lambda x: x + 1.0, "rows of zeros of the case 'padded'"),
        (lambda x: x * torch.rand(1), "the case 'one' otherwise when it is asked again"),
        (lambda x: x[:, :1], r"for the case 'one' the model gives \(1, 1\), not \(1, 2\)"),
        (lambda x: torch.cat([x, x[:, 0]]), "the model refuses the case 'one': Tensors must have same number"),
        (lambda x: {"y": x}, "the model refuses the case 'one'"),
    ],
)
def test_a_model_that_a_host_cannot_use_is_refused(tmp_path, forward, message):
    columns = np.full((4, 2), 2.0, np.float32)
    ends = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    with pytest.raises(SubgridError, match=message):
        write_vectors(tmp_path / "test", forward, columns, *ends, np.ones(2))
    assert not (tmp_path / "test" / "vectors.txt").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"pcols": 0}, UsageError, "pcols=0 must be positive"),
        ({"columns": np.ones((0, 2), np.float32)}, UsageError, "need .* float32 columns"),
        ({"columns": np.ones((3, 2))}, UsageError, "need .* float32 columns, not .* float64"),
        ({"low": np.ones(3)}, UsageError, r"low \(3,\) and high \(2,\) are not of 2 inputs"),
        ({"high": np.array([1.0, np.inf])}, SubgridError, "the range of inputs are not finite"),
        ({"columns": np.full((3, 2), np.nan, np.float32)}, SubgridError, "the columns are not finite"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, changes, error, message):
    settings = {"columns": np.ones((3, 2), np.float32), "low": np.zeros(2), "high": np.ones(2), "spread": np.ones(2)}
    with pytest.raises(error, match=message):
        write_vectors(tmp_path, lambda x: x, **{**settings, **changes})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "vectors.txt").unlink(), "holds no test vectors"),
        (lambda f: (f / "vectors.txt").write_text("words\n"), "vectors.txt is damaged"),
        (lambda f: (f / "vectors.txt").write_text(""), "vectors.txt is damaged"),
        (lambda f: (f / "vectors.txt").write_text("2 45 44 1\none 1\n"), "1 cases of 2"),
        (lambda f: (f / "one.x.bin").unlink(), "one.x.bin does not exist"),
        (lambda f: (f / "one.y.bin").write_bytes(b"12345678"), "one.y.bin holds 2 numbers, not 1x44"),
    ],
)
def test_damaged_vectors_are_refused_by_name(tmp_path, module, given, damage, message):
    write_vectors(tmp_path, module, given[0][:20], *given[1:])
    damage(tmp_path)
    with pytest.raises(SubgridError, match=message):
        run_vectors(module, tmp_path)
