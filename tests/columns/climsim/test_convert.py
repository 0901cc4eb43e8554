"""ClimSim's files to a store: what it holds against plain numpy, any number of workers, kills, and its provenance."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import partial_path
from subgrid.columns import variable_set
from subgrid.columns.climsim import convert as module
from subgrid.columns.climsim.blocks import RECORDS
from subgrid.columns.climsim.convert import ConvertConfig, convert
from subgrid.columns.climsim.names import step_number
from subgrid.columns.climsim.netcdf import BadFile
from subgrid.columns.climsim.sample import SampleConfig, write_sample

from .conftest import COLUMNS, LEVELS
from .files import all_bytes, copy_steps, path_of, read_raw, rewrite, stored

#: First step of the months of each split, and the steps of one day that it takes.
EXPECTED = {
    "train": (step_number(1, 2, 1, 0), range(0, 72, 7)),
    "validation": (step_number(8, 2, 1, 0), range(0, 72, 7)),
    "scoring": (step_number(8, 2, 1, 0), range(0, 72, 6)),
    "test": (step_number(9, 3, 1, 0), range(1, 72, 12)),
    "test_stride7": (step_number(9, 3, 1, 0), range(0, 72, 7)),
}
DT = 1200.0
LIQUID = (6.11239921, 0.443987641, 0.0142986287, 2.64847430e-4, 3.02950461e-6)
LIQUID += (2.06739458e-8, 6.40689451e-11, -9.52447341e-14, -9.76195544e-16)
ICE = (6.11147274, 0.503160820, 0.0188439774, 4.20895665e-4, 6.15021634e-6)
ICE += (6.02588177e-8, 3.85852041e-10, 1.46898966e-12, 2.52751365e-15)


def saturation(t):
    """The published saturation pressure, Pa, written here once more."""
    d = t - 273.16
    liquid = 100.0 * sum(a * np.maximum(d, -80.0) ** k for k, a in enumerate(LIQUID))
    ice = 100.0 * sum(a * d**k for k, a in enumerate(ICE))
    m = np.maximum(d, -100.0)
    ice = np.where(t <= 185.0, 100.0 * (0.00763685 + m * (1.51069e-4 + 7.48215e-7 * m)), ice)
    ice = np.where(t > 273.15, liquid, ice)
    share = np.clip((t - 253.16) / 20.0, 0.0, 1.0)
    return share * liquid + (1.0 - share) * ice


class Derived:
    """What each variable should be at one step, from that step's files and those before it, read with netCDF4."""

    def __init__(self, sample, number):
        months = sample / "train"
        self.latitude = np.deg2rad(read_raw(next(sample.glob("*grid-info.nc")))["lat"])
        self.before, self.after = (
            [read_raw(p) if (p := path_of(months, kind, number - back)).exists() else None for back in range(3)]
            for kind in ("mli", "mlo")
        )

    def water(self, fields, name):
        if name == "qn":
            return fields["state_q0002"] + fields["state_q0003"]
        if name == "q0":
            return fields["state_q0001"] + fields["state_q0002"] + fields["state_q0003"]
        return fields[f"state_{name}"]

    def physics(self, name, back):
        return (self.water(self.after[back], name) - self.water(self.before[back], name)) / DT

    def of(self, name):
        """One variable, (level, column) or (column,), float64."""
        state = self.before[0]
        back = 1 if name.startswith("tm_") else 0
        short = name.removeprefix("tm_").removeprefix("state_").removeprefix("ptend_")
        if name.startswith("ptend_"):
            return self.physics(short, 0)
        if name.endswith("_prvphy"):
            return self.physics(short.removesuffix("_prvphy"), back + 1)
        if name.endswith("_dyn"):
            x = short.removesuffix("_dyn")
            return (self.water(self.before[back], x) - self.water(self.after[back + 1], x)) / DT
        if name == "state_rh":
            return state["state_q0001"] * 461.0 * state["state_pmid"] / (287.0 * saturation(state["state_t"]))
        special = {
            "state_qn": lambda: self.water(state, "qn"),
            "liq_partition": lambda: np.clip((state["state_t"] - 253.16) / 20.0, 0.0, 1.0),
            "cam_in_SNOWHICE": lambda: np.where(state["cam_in_SNOWHICE"] > 1e29, 0.0, state["cam_in_SNOWHICE"]),
            "snowhice_mask": lambda: (state["cam_in_SNOWHICE"] > 1e29).astype(float),
            "clat": lambda: np.cos(self.latitude),
            "slat": lambda: np.sin(self.latitude),
            "icol": lambda: np.arange(1.0, len(self.latitude) + 1.0),
        }
        if name in special:
            return special[name]()
        if name.startswith("cam_out_"):
            return self.after[0][name]
        return self.before[back][name.removeprefix("tm_")]


def convert_all(source, out, **settings):
    return convert(ConvertConfig(str(source), **settings), out)


@pytest.mark.parametrize(("name", "history"), [("v1", 0), ("v2_rh_mc", 0), ("v5", 2), ("v6", 2)])
def test_a_store_holds_what_plain_numpy_derives(sample, tmp_path, name, history):
    store = convert_all(sample / "train", tmp_path / "store", variables=name)
    held = variable_set(name)
    assert sorted(store.split_names) == sorted(EXPECTED)
    for split, (first, steps) in EXPECTED.items():
        numbers = [first + n for n in steps if n >= history]
        values = stored(store, split)
        assert {v.name for v in (*held.inputs, *held.targets)} <= set(values)
        assert store[split].samples == len(numbers) * COLUMNS
        each = [Derived(sample, number) for number in numbers]
        for variable, found in values.items():
            expected = np.concatenate([np.moveaxis(one.of(variable), -1, 0) for one in each])
            # The humidity's polynomials are summed in another order; all else is the very same arithmetic.
            close = {"rtol": 2e-7} if variable == "state_rh" else {"rtol": 0}
            np.testing.assert_allclose(found, expected.astype(np.float32), err_msg=f"{split} {variable}", **close)
        assert np.array_equal(store[split].mark("column"), np.tile(np.arange(COLUMNS), len(numbers)))
        seconds = store[split].mark("time").reshape(-1, COLUMNS)
        assert np.array_equal(np.diff(seconds[:, 0]), np.diff(numbers) * 1200)
        area = np.tile(store.grid.area.astype(np.float32), len(numbers))
        assert np.array_equal(store[split].mark("weight"), area)


def test_scores_find_what_the_set_itself_lacks(sample, tmp_path):
    store = convert_all(sample / "train", tmp_path / "store", variables="v2_rh_mc", splits="test")
    wanted = ["state_q0001", "state_q0002", "state_q0003", "ptend_q0002", "ptend_q0003", "snowhice_mask"]
    assert [v.name for v in store.spec.arrays["scoring"]] == wanted
    held = stored(store, "test")
    total = held["ptend_q0002"].astype(np.float64) + held["ptend_q0003"]
    np.testing.assert_allclose(total, held["ptend_qn"], rtol=1e-5, atol=1e-16)
    assert set(np.unique(held["snowhice_mask"])) == {0.0, 1.0}
    assert store.spec.provenance["found"]["snow_on_ice_fills"] == held["snowhice_mask"].sum()
    assert not held["cam_in_SNOWHICE"][held["snowhice_mask"] == 1.0].any()


def test_statistics_are_those_of_the_float32_columns(sample, tmp_path):
    store = convert_all(sample / "train", tmp_path / "store", variables="v2", rows=36)
    assert store.spec.block == 36
    rows = store["train"]
    columns = np.concatenate([rows.read("inputs", b) for b in range(rows.blocks)]).astype(np.float64)
    told = rows.statistics("inputs")
    np.testing.assert_allclose(told["mean"], columns.mean(axis=0), rtol=1e-12)
    assert np.all(np.abs(told["std"] - columns.std(axis=0)) <= 1e-12 * np.abs(columns).max(axis=0))
    assert np.array_equal(told["min"], columns.min(axis=0))
    assert np.array_equal(told["max"], columns.max(axis=0))
    assert np.abs(told["max"]).max() < 1e29


@pytest.fixture(scope="module")
def alone(sample, tmp_path_factory):
    """v6, one step a block, by one worker."""
    return convert_all(sample / "train", tmp_path_factory.mktemp("alone") / "store", variables="v6", rows=12)


def test_two_workers_make_the_arrays_of_one(sample, tmp_path, alone):
    config = ConvertConfig(str(sample / "train"), "v6", rows=12)
    assert all_bytes(convert(config, tmp_path / "store", workers=2)) == all_bytes(alone)


@pytest.fixture(scope="module")
def cluster():
    """A dask cluster of one process with two threads: the NetCDF library must be entered by one at a time."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as made:
        yield made.scheduler_address


def test_a_dask_cluster_by_address_makes_the_arrays_of_one(sample, tmp_path, alone, cluster):
    config = ConvertConfig(str(sample / "train"), "v6", rows=12)
    assert all_bytes(convert(config, tmp_path / "store", scheduler=cluster)) == all_bytes(alone)


@pytest.mark.parametrize("where", ["two workers", "cluster"])
def test_a_damaged_file_is_named_from_afar(sample, tmp_path, request, where):
    months = copy_steps(sample, tmp_path, range(72), EXPECTED["train"][0])
    broken = path_of(months, "mlo", EXPECTED["train"][0] + 14)
    broken.write_bytes(broken.read_bytes()[:-9])
    place = {"workers": 2} if where == "two workers" else {"scheduler": request.getfixturevalue("cluster")}
    with pytest.raises(BadFile, match=rf"{broken.name} is truncated \(\d+ of \d+ bytes\)"):
        convert(ConvertConfig(str(months), "v6", rows=12), tmp_path / "store", **place)
    assert not (tmp_path / "store").exists()


def test_no_scheduler_at_an_address(sample, tmp_path, monkeypatch):
    monkeypatch.setattr("subgrid.columns.climsim.workers.PATIENCE", 1)
    with pytest.raises(SubgridError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9 "):
        convert(ConvertConfig(str(sample / "train"), "v1"), tmp_path / "store", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "store").exists()


def test_a_killed_conversion_goes_on_and_makes_the_same_arrays(sample, tmp_path, alone, monkeypatch):
    done = []

    def dies_at_the_tenth(job, block):
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(block)
        return real(job, block)

    real = module.convert_block
    config = ConvertConfig(str(sample / "train"), "v6", rows=12)
    monkeypatch.setattr(module, "convert_block", dies_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        convert(config, tmp_path / "store")
    records = partial_path(tmp_path / "store") / RECORDS
    assert len(list(records.iterdir())) == 9
    monkeypatch.setattr(module, "convert_block", lambda job, block: again.append(block) or real(job, block))
    again: list[object] = []
    assert all_bytes(convert(config, tmp_path / "store")) == all_bytes(alone)
    assert len(again) == len(EXPECTED["train"][1]) * 3 + 12 + 6 - 5 - 9  # one of each split lacks the steps before it


@pytest.mark.parametrize("harm", ["record cut", "record gone", "chunk cut", "chunk gone"])
def test_a_block_that_is_not_whole_is_made_again(sample, tmp_path, alone, monkeypatch, harm):
    real, config = module.convert_block, ConvertConfig(str(sample / "train"), "v6", rows=12)

    def dies_at_the_third(job, block):
        if block.index == 2:
            raise KeyboardInterrupt
        return real(job, block)

    monkeypatch.setattr(module, "convert_block", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        convert(config, tmp_path / "store")
    folder = partial_path(tmp_path / "store")
    what, how = harm.split()
    harmed = folder / RECORDS / "train-1.safetensors" if what == "record" else folder / "train/targets/c/1/0"
    harmed.unlink() if how == "gone" else os.truncate(harmed, harmed.stat().st_size - 7)
    again = []
    monkeypatch.setattr(module, "convert_block", lambda job, block: again.append(block) or real(job, block))
    assert all_bytes(convert(config, tmp_path / "store")) == all_bytes(alone)
    assert [block.index for block in again[:2]] == [1, 2]


def test_a_conversion_killed_from_outside_leaves_no_worker_and_goes_on(tmp_path):
    """SIGKILL while two workers are at it: they end by themselves, and the same command goes on."""
    write_sample(tmp_path / "sample", SampleConfig(days=1, columns=COLUMNS, levels=LEVELS))
    code = (
        "import sys\n"
        "from subgrid.columns.climsim.convert import ConvertConfig, convert\n"
        "if __name__ == '__main__':\n"
        "    convert(ConvertConfig(sys.argv[1], 'v6', rows=12), sys.argv[2], workers=2)\n"
    )
    (tmp_path / "run.py").write_text(code)
    out, source = tmp_path / "store", tmp_path / "sample" / "train"
    running = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), str(source), str(out)])
    records = partial_path(out) / RECORDS
    deadline = time.monotonic() + 300
    while not (records.is_dir() and len(list(records.glob("*.safetensors"))) >= 3) and running.poll() is None:
        assert time.monotonic() < deadline, "no block was made"
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = len(list(records.glob("*.safetensors"))) if records.is_dir() else None
    made = convert(ConvertConfig(str(source), "v6", rows=12), out)
    whole = convert(ConvertConfig(str(source), "v6", rows=12), tmp_path / "whole")
    assert kept is None or kept >= 3
    assert all_bytes(made) == all_bytes(whole)


def test_the_same_command_finds_its_store_and_another_is_refused(sample, tmp_path):
    config = ConvertConfig(str(sample / "train"), "v1", "test")
    first = all_bytes(convert(config, tmp_path / "store"))
    assert all_bytes(convert(config, tmp_path / "store")) == first
    with pytest.raises(SubgridError, match="made with other settings"):
        convert(ConvertConfig(str(sample / "train"), "v2", "test"), tmp_path / "store")


def test_xarray_opens_a_split_with_its_calendar(sample, tmp_path):
    import cftime

    convert_all(sample / "train", tmp_path / "store", variables="v1", splits="train,test")
    with xr.open_zarr(tmp_path / "store", group="train", consolidated=False) as found:
        times = found["time"].values
        assert times[0] == cftime.DatetimeNoLeap(1, 2, 1)
        assert times[COLUMNS] == cftime.DatetimeNoLeap(1, 2, 1, 2, 20)
        assert found["inputs"].shape == (11 * COLUMNS, 2 * LEVELS + 4)
        assert str(found["inputs_channel"].values[0]) == "state_t_0"
    with xr.open_zarr(tmp_path / "store", group="test", consolidated=False) as found:
        assert found["time"].values[0] == cftime.DatetimeNoLeap(9, 3, 1, 0, 20)


def test_netcdf4_files_make_the_arrays_of_cdf5_ones(sample, tmp_path):
    config = SampleConfig(days=1, columns=COLUMNS, levels=LEVELS, format="netcdf4", stride=7)
    write_sample(tmp_path / "sample", config)
    made = convert_all(tmp_path / "sample" / "train", tmp_path / "store", variables="v2", splits="train")
    plain = convert_all(sample / "train", tmp_path / "plain", variables="v2", splits="train")
    assert all_bytes(made) == all_bytes(plain)


def test_a_folder_downloaded_with_the_stride_gives_the_same_choice(sample, tmp_path):
    first = EXPECTED["train"][0]
    months = copy_steps(sample, tmp_path, range(0, 72, 7), first)
    thinned = convert_all(months, tmp_path / "thinned", variables="v1", splits="train")
    whole = convert_all(sample / "train", tmp_path / "whole", variables="v1", splits="train")
    assert all_bytes(thinned) == all_bytes(whole)


def test_a_flat_folder_is_read_too(sample, tmp_path):
    months = copy_steps(sample, tmp_path / "a", range(0, 15), EXPECTED["train"][0])
    flat = tmp_path / "a" / "flat"
    shutil.copytree(months / "0001-02", flat)
    in_months = convert_all(months, tmp_path / "one", variables="v1", splits="train")
    assert all_bytes(convert_all(flat, tmp_path / "two", variables="v1", splits="train")) == all_bytes(in_months)


def test_values_too_small_for_float32_are_counted(sample, tmp_path):
    first = EXPECTED["train"][0]
    months = copy_steps(sample, tmp_path, range(0, 8), first)

    def dry(fields):
        fields["state_q0001"][1][0, :5] = [1e-50, -1e-42, 1e-39, 0.0, 2e-38]

    rewrite(path_of(months, "mli", first + 7), dry)
    store = convert_all(months, tmp_path / "store", variables="v1", splits="train")
    assert store.spec.provenance["found"]["below_float32"] == {"state_q0001": 3}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"variables": "speedy"}, "'speedy' is not of ClimSim"),
        ({"variables": "v7"}, "v7"),
        ({"variables": "v1", "splits": "trian"}, "did you mean.*train"),
        ({"variables": "v1", "on_error": "ignore"}, "stop"),
        ({"variables": "v1", "rows": 0}, "rows=0"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(UsageError, match=words):
        ConvertConfig("somewhere", **settings)


def test_no_worker(sample, tmp_path):
    with pytest.raises(UsageError, match="workers=0"):
        convert(ConvertConfig(str(sample / "train"), "v1"), tmp_path / "store", workers=0)


def test_a_split_without_files(sample, tmp_path):
    months = copy_steps(sample, tmp_path, range(0, 8), EXPECTED["train"][0])
    with pytest.raises(SubgridError, match=r"no pair of files of split 'val' \(from 0008-02"):
        convert_all(months, tmp_path / "store", variables="v1", splits="train,val")
    assert convert_all(months, tmp_path / "store", variables="v1").split_names == ["train"]


def test_a_set_with_history_needs_the_steps_before(sample, tmp_path):
    months = copy_steps(sample, tmp_path, range(0, 72, 7), EXPECTED["train"][0])
    with pytest.raises(SubgridError, match="none of the 11 steps of split 'train' has the steps before it"):
        convert_all(months, tmp_path / "store", variables="v6", splits="train")


def test_a_folder_without_files_or_grid(sample, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SubgridError, match=r"holds no file E3SM-MMF\.\*\.nc"):
        convert_all(tmp_path / "empty", tmp_path / "store", variables="v1")
    months = copy_steps(sample, tmp_path / "a" / "b" / "c", range(8), EXPECTED["train"][0])
    grid = next((tmp_path / "a" / "b" / "c").glob("*grid-info.nc"))
    grid.rename(tmp_path / "grid.nc")
    with pytest.raises(SubgridError, match="--grid FILE"):
        convert_all(months, tmp_path / "store", variables="v1")
    given = convert_all(months, tmp_path / "store", variables="v1", grid=str(tmp_path / "grid.nc"))
    assert given.grid.columns == COLUMNS
    assert Path(given.spec.provenance["grid"]) == tmp_path / "grid.nc"
