"""The npy form to a store: physical values, places and times, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import cftime
import numpy as np
import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns import stream
from subgrid.columns.climsim import npy
from subgrid.columns.climsim.npy import NpyConfig, convert
from subgrid.columns.climsim.sample import sample_grid, write_grid
from subgrid.columns.layout import TIME_UNITS
from subgrid.columns.variables import channel_labels, variable_set

COLUMNS, LEVELS = 12, 60
STEPS = {"train": 30, "val": 8, "scoring": 5}
NAMES = {"train": "train", "val": "validation", "scoring": "scoring"}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "small_grid-info.nc"
    write_grid(path, sample_grid(COLUMNS, LEVELS), "netcdf4")
    return path


@pytest.fixture(scope="module")
def scales(tmp_path_factory, write_normalisation):
    return write_normalisation(tmp_path_factory.mktemp("scales"), variable_set("v1"), LEVELS)


@pytest.fixture
def arrays():
    """Normalised inputs and targets of each split."""
    rng = np.random.default_rng(0)
    rows = {name: steps * COLUMNS for name, steps in STEPS.items()}
    return {
        f"{name}_{kind}": rng.standard_normal((n, width)).astype(np.float32)
        for name, n in rows.items()
        for kind, width in (("input", 124), ("target", 128))
    }


@pytest.fixture
def folder(tmp_path, arrays):
    made = tmp_path / "npy"
    made.mkdir()
    for name, values in arrays.items():
        np.save(made / f"{name}.npy", values)
    return made


def statistics(kind, variables):
    """The numbers of ``write_normalisation`` by hand, (channel,)."""
    ends = {"mean": 0.5, "span": 4.0}
    found = []
    for k, v in enumerate(variables, start=1):
        if kind == "scale":
            value = np.full(v.width(LEVELS), 10.0 * k)
        else:
            levels = np.arange(LEVELS) if v.kind == "profile" and kind == "mean" else np.zeros(v.width(LEVELS))
            value = ends[kind] * k + levels
        found.append(value)
    return np.concatenate(found)


def test_values_become_physical(tmp_path, folder, arrays, grid, scales):
    store = convert(NpyConfig(str(folder), str(grid), str(scales)), tmp_path / "s.zarr")
    variables = variable_set("v1")
    mean, span = statistics("mean", variables.inputs), statistics("span", variables.inputs)
    scale = statistics("scale", variables.targets)
    for name, stored in NAMES.items():
        split = store[stored]
        x = arrays[f"{name}_input"].astype(np.float64) * span + mean
        y = arrays[f"{name}_target"].astype(np.float64) / scale
        for array, wanted in (("inputs", x), ("targets", y)):
            found = np.concatenate([split.read(array, block) for block in range(split.blocks)])
            assert np.array_equal(found, wanted.astype(np.float32))
    assert len(channel_labels(variables.inputs, LEVELS)) == 124 and store.own_set() == "v1"


def test_the_published_normalisation_and_grid(tmp_path):
    """With the files that ClimSim publishes, beside the formulas by hand."""
    import netCDF4

    reference = Path(os.environ.get("SUBGRID_REFERENCE", Path(__file__).parents[4] / "shared" / "reference"))
    published = reference / "climsim" / "preprocessing" / "normalizations"
    if not published.is_dir():
        pytest.skip("reference data: ClimSim's normalisation files are not there")
    rng, made = np.random.default_rng(0), tmp_path / "npy"
    made.mkdir()
    x, y = (rng.standard_normal((384, width)).astype(np.float32) for width in (124, 128))
    np.save(made / "val_input.npy", x)
    np.save(made / "val_target.npy", y)
    (grid,) = (reference / "climsim" / "grid_info").glob("*grid-info.nc")
    store = convert(NpyConfig(str(made), str(grid), str(published)), tmp_path / "s.zarr")
    split, (block, targets) = store["validation"], (store["validation"].read(a, 0) for a in ("inputs", "targets"))

    def number(file, name):
        with netCDF4.Dataset(published / file) as held:
            return np.asarray(held[name][...], np.float64)

    for name, place in (("state_t", slice(0, 60)), ("state_ps", slice(120, 121)), ("pbuf_SHFLX", slice(123, 124))):
        high, low, mean = (number(f"inputs/input_{part}.nc", name) for part in ("max", "min", "mean"))
        wanted = x[:, place].astype(np.float64) * (high - low) + mean
        assert np.array_equal(block[:, place], wanted.astype(np.float32))
    # 1 over these: 1004.64 for heating and 1,313,280 for rain, constant in level
    assert np.allclose(targets[:, :60], y[:, :60] / 1004.64, rtol=1e-6)
    assert np.allclose(targets[:, 123], y[:, 123] / 1_313_280.0, rtol=1e-6)
    assert split.mark("weight").sum(dtype=np.float64) == pytest.approx(4.0 * np.pi, rel=1e-6)


def test_rows_are_step_after_step(tmp_path, folder, grid, scales):
    store = convert(NpyConfig(str(folder), str(grid), str(scales)), tmp_path / "s.zarr")
    for name, stored in NAMES.items():
        split = store[stored]
        assert np.array_equal(split.mark("column"), np.tile(np.arange(COLUMNS), STEPS[name]))
        steps = split.mark("time").reshape(STEPS[name], COLUMNS)
        assert (steps == steps[:, :1]).all()
        stride = 6 if name == "scoring" else 7
        assert (np.diff(steps[:, 0]) == stride * 1200).all()
        first = cftime.num2date(steps[0, 0], TIME_UNITS, "noleap")
        assert first == (cftime.DatetimeNoLeap(1, 2, 1) if name == "train" else cftime.DatetimeNoLeap(8, 2, 1))


def test_nan_among_inputs_is_the_mean_and_counted(tmp_path, folder, arrays, grid, scales):
    x = arrays["val_input"]
    x[3, 5], x[4, 5], x[5, 120] = np.nan, -np.inf, np.inf
    np.save(folder / "val_input.npy", x)
    store = convert(NpyConfig(str(folder), str(grid), str(scales)), tmp_path / "s.zarr")
    found = store["validation"].read("inputs", 0)
    mean = statistics("mean", variable_set("v1").inputs).astype(np.float32)
    assert found[3, 5] == found[4, 5] == mean[5] and found[5, 120] == mean[120]
    assert store.spec.provenance["found"] == {
        "rows": sum(STEPS.values()) * COLUMNS,
        "input_nan_or_infinity_as_mean": 3,
        "below_float32": {},
    }


def test_killed_and_begun_again_it_ends_the_same(tmp_path, folder, grid, scales, monkeypatch):
    config = NpyConfig(str(folder), str(grid), str(scales), rows=100)
    whole = convert(config, tmp_path / "whole.zarr")
    monkeypatch.setattr(npy, "ROWS", 48)
    monkeypatch.setattr(stream, "CHECKPOINT_ROWS", 90)
    pieces, made = npy._Plan._piece, []

    def dying(plan, *given):
        made.append(given[1])
        if len(made) in (4, 8, 12):
            raise KeyboardInterrupt
        return pieces(plan, *given)

    monkeypatch.setattr(npy._Plan, "_piece", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            convert(config, tmp_path / "s.zarr")
    store = convert(config, tmp_path / "s.zarr")
    assert made.count(0) < 5  # three splits, begun once each, and once more before the first checkpoint
    for name in whole.split_names:
        for block in range(whole[name].blocks):
            for array in ("inputs", "targets", "time", "column", "weight"):
                assert np.array_equal(whole[name].read(array, block), store[name].read(array, block))
        for field, values in whole[name].statistics("inputs").items():
            assert np.array_equal(values, store[name].statistics("inputs")[field])
    assert whole.spec.provenance["found"] == store.spec.provenance["found"]


def remove(name):
    return lambda folder: (folder / name).unlink()


def save(name, values):
    return lambda folder: np.save(folder / name, values)


def truncate(folder):
    path = folder / "train_input.npy"
    path.write_bytes(path.read_bytes()[:1000])


def nan_target(folder):
    values = np.load(folder / "val_target.npy")
    values[1, 2] = np.nan
    np.save(folder / "val_target.npy", values)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove("val_target.npy"), "val_target.npy is missing beside val_input.npy"),
        (truncate, "is damaged, or not an npy file"),
        (save("val_input.npy", np.zeros((96, 557), np.float32)), r"holds \(96, 557\) float32, expected \(rows, 124\)"),
        (save("val_input.npy", np.zeros((96, 124))), "float64, expected"),
        (save("val_input.npy", np.zeros((84, 124), np.float32)), "has 84 rows, its targets have 96"),
        (save("val_input.npy", np.array([{}], object)), "damaged, or not an npy file"),
        (nan_target, r"NaN or infinity in 'targets': ptend_t \(1 of"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "has none of train_input.npy"),
    ],
)
def test_wrong_files_are_refused(tmp_path, folder, grid, scales, damage, says):
    damage(folder)
    with pytest.raises(SubgridError, match=says):
        convert(NpyConfig(str(folder), str(grid), str(scales)), tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_rows_of_another_grid_are_refused(tmp_path, folder, scales):
    path = tmp_path / "other_grid-info.nc"
    write_grid(path, sample_grid(7, LEVELS), "netcdf4")
    with pytest.raises(SubgridError, match="no multiple of the grid's 7 columns"):
        convert(NpyConfig(str(folder), str(path), str(scales)), tmp_path / "s.zarr")


@pytest.mark.parametrize(("name", "says"), [("grid", "--grid"), ("normalization", "input_mean.nc")])
def test_what_is_needed_is_asked_for(folder, grid, scales, name, says):
    settings = {"folder": str(folder), "grid": str(grid), "normalization": str(scales), name: ""}
    with pytest.raises(UsageError, match=says):
        NpyConfig(**settings)


def test_a_folder_without_the_normalisation_is_refused(tmp_path, folder, grid):
    with pytest.raises(SubgridError, match=r"no input_mean.nc, input_max.nc, input_min.nc, output_scale.nc"):
        convert(NpyConfig(str(folder), str(grid), str(tmp_path)), tmp_path / "s.zarr")
