"""The competition's training file to a store: values, places, times, splits, resumption, and what is refused."""

from __future__ import annotations

import cftime
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns import stream
from subgrid.columns.climsim.grid import read_grid
from subgrid.columns.kaggle import files
from subgrid.columns.kaggle.convert import KaggleConfig, convert
from subgrid.columns.kaggle.layout import INPUT_LABELS, TARGET_LABELS, TRAIN_HEADER
from subgrid.columns.layout import TIME_UNITS
from subgrid.columns.store import open_store
from subgrid.columns.variables import channel_labels, variable_set
from subgrid.physics.moisture import liquid_partition, relative_humidity


def ids(numbers):
    return [f"train_{n}" for n in numbers]


def by_label(values):
    """(row, 924) -> channel values by label."""
    return dict(zip([*INPUT_LABELS, *TARGET_LABELS], values.T, strict=True))


def held(store, array):
    """All rows of an array, split after split in time."""
    splits = [store[name] for name in ("train", "validation", "test")]
    return np.concatenate([split.read(array, block) for split in splits for block in range(split.blocks)])


def assert_same(one, other):
    assert one.split_names == other.split_names
    for name in one.split_names:
        for array in (*one.spec.arrays, "time", "column", "weight"):
            for block in range(one[name].blocks):
                assert np.array_equal(one[name].read(array, block), other[name].read(array, block))
        for array in one.spec.arrays:
            for field, values in one[name].statistics(array).items():
                assert np.array_equal(values, other[name].statistics(array)[field])


def test_every_value_goes_to_the_channel_of_its_name(kaggle_store, kaggle_rows):
    found = by_label(kaggle_rows[1])
    variables = variable_set("kaggle")
    for array, group in (("inputs", variables.inputs), ("targets", variables.targets)):
        expected = np.stack([found[label] for label in channel_labels(group, 60)], axis=1)
        assert np.array_equal(held(kaggle_store, array), expected.astype(np.float32))


def test_rows_have_the_place_time_and_weight_of_their_number(kaggle_store, kaggle_rows, grid_file):
    numbers, _ = kaggle_rows
    area = read_grid(grid_file).area
    assert np.array_equal(held(kaggle_store, "column"), numbers % 384)
    assert np.array_equal(held(kaggle_store, "weight"), area[numbers % 384].astype(np.float32))
    first = cftime.num2date(held(kaggle_store, "time")[0], TIME_UNITS, "noleap")
    # step 100 of the file is step 700 of the model: 9 days and 52 steps of 20 minutes
    assert first == cftime.DatetimeNoLeap(1, 2, 10, 17, 20)


def test_splits_follow_one_another_in_time_and_cut_no_step(kaggle_store):
    steps = {name: kaggle_store[name].mark("time") for name in kaggle_store.split_names}
    assert {name: len(time) for name, time in steps.items()} == {"train": 128, "validation": 16, "test": 16}
    assert steps["train"].max() < steps["validation"].min() <= steps["validation"].max() < steps["test"].min()


def test_shares_of_zero_leave_a_split_out(tmp_path, kaggle_train, grid_file):
    config = KaggleConfig((str(kaggle_train),), str(grid_file), validation_share=0.25, test_share=0.0)
    store = convert(config, tmp_path / "s.zarr")
    assert {name: store[name].samples for name in store.split_names} == {"train": 120, "validation": 40}


@pytest.mark.parametrize("pieces", [1, 3])
def test_parquet_gives_the_same_store(tmp_path, kaggle_store, kaggle_rows, write_kaggle, grid_file, pieces):
    numbers, values = kaggle_rows
    folder = tmp_path / "files"
    folder.mkdir()
    # named against their order in time
    for k, part in enumerate(np.array_split(np.arange(len(numbers)), pieces)):
        write_kaggle(folder / f"{pieces - k}.parquet", ids(numbers[part]), values[part], TRAIN_HEADER)
    assert_same(kaggle_store, convert(KaggleConfig((str(folder),), str(grid_file)), tmp_path / "s.zarr"))


def test_small_chunks_give_the_same_store(tmp_path, kaggle_store, kaggle_train, grid_file, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 40_000)
    assert_same(kaggle_store, convert(KaggleConfig((str(kaggle_train),), str(grid_file)), tmp_path / "s.zarr"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_killed_and_begun_again_it_ends_the_same(
    tmp_path, kaggle_store, kaggle_rows, write_kaggle, grid_file, monkeypatch, suffix
):
    numbers, values = kaggle_rows
    cut = 60
    parts = [
        write_kaggle(tmp_path / f"{k}{suffix}", ids(numbers[p]), values[p], TRAIN_HEADER, group=17)
        for k, p in enumerate((slice(None, cut), slice(cut, None)))
    ]
    config = KaggleConfig(tuple(map(str, parts)), str(grid_file))
    monkeypatch.setattr(files, "CHUNK", 100_000)
    monkeypatch.setattr(files, "BATCH", 5)
    monkeypatch.setattr(stream, "CHECKPOINT_ROWS", 20)
    begun = []
    whole = files.Table.batches

    def dying(table, position=files.BEGINNING):
        begun.append(position)
        for number, batch in enumerate(whole(table, position)):
            if number == 7 and len(begun) < 5:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(files.Table, "batches", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            convert(config, tmp_path / "s.zarr")
        assert not (tmp_path / "s.zarr").exists()
    store = convert(config, tmp_path / "s.zarr")
    assert any(position != files.BEGINNING for position in begun)
    assert_same(kaggle_store, store)
    assert store.spec.provenance["found"] == kaggle_store.spec.provenance["found"]


def test_a_finished_store_is_kept_and_one_of_other_settings_refused(tmp_path, kaggle_train, grid_file):
    config = KaggleConfig((str(kaggle_train),), str(grid_file))
    convert(config, tmp_path / "s.zarr")
    before = (tmp_path / "s.zarr" / "zarr.json").stat().st_mtime_ns
    convert(config, tmp_path / "s.zarr")
    assert (tmp_path / "s.zarr" / "zarr.json").stat().st_mtime_ns == before
    with pytest.raises(SubgridError, match="made with other settings"):
        convert(KaggleConfig((str(kaggle_train),), str(grid_file), test_share=0.2), tmp_path / "s.zarr")


def test_humidity_and_cloud_water_are_derived_in_float64(tmp_path, kaggle_train, kaggle_rows, grid_file):
    config = KaggleConfig((str(kaggle_train),), str(grid_file), variables="kaggle_rh_mc")
    store = convert(config, tmp_path / "s.zarr")
    values = by_label(kaggle_rows[1])

    def profile(name):
        return np.stack([values[f"{name}_{k}"] for k in range(60)], axis=1)

    pressure = read_grid(grid_file).vertical.mid_pressure(values["state_ps"])
    t, q = profile("state_t"), profile("state_q0001")
    expected = {
        "state_rh": relative_humidity(q, t, np.asarray(pressure), "sam"),
        "state_qn": profile("state_q0002") + profile("state_q0003"),
        "liq_partition": liquid_partition(t),
        "ptend_qn": profile("ptend_q0002") + profile("ptend_q0003"),
        "ptend_q0003": profile("ptend_q0003"),
    }
    names = {v.name: v for group in store.spec.arrays.values() for v in group}
    for name, wanted in expected.items():
        found = np.concatenate(
            [
                store[s].read_variables((names[name],), b)
                for s in ("train", "validation", "test")
                for b in range(store[s].blocks)
            ]
        )
        assert np.allclose(found, wanted, rtol=1e-7, atol=0.0), name
    assert store.own_set() == "kaggle_rh_mc"


def test_what_float32_cannot_hold_is_counted(tmp_path, kaggle_rows, write_kaggle, grid_file):
    numbers, values = kaggle_rows[0], kaggle_rows[1].copy()
    label = TRAIN_HEADER[1:].index
    values[3:8, label("state_q0002_7")] = 1e-40
    values[3:8, label("ptend_q0003_11")] = -3e-39
    values[:, label("ptend_u_2")] = 1e-20
    values[:, label("ptend_v_2")] = 0.0
    path = write_kaggle(tmp_path / "train.csv", ids(numbers), values, TRAIN_HEADER)
    store = convert(KaggleConfig((str(path),), str(grid_file)), tmp_path / "s.zarr")
    found = store.spec.provenance["found"]
    assert found == {"rows": 160, "below_float32": {"state_q0002": 5, "ptend_q0003": 5}}


def change_header(header, values):
    header[5], header[6] = header[6], header[5]


def drop_column(header, values):
    header[40] = "state_t_x"


def nan(header, values):
    values[17, 100] = np.nan


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (change_header, "column 6 is state_t_5, expected state_t_4: the order differs"),
        (drop_column, r"missing state_t_39 \(1\); unknown state_t_x \(1\)"),
        (nan, "row train_40037: column state_q0001_40 is empty, NaN or infinite"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path, kaggle_rows, write_kaggle, grid_file, suffix, damage, says):
    header, values = list(TRAIN_HEADER), kaggle_rows[1].copy()
    damage(header, values)
    path = write_kaggle(tmp_path / f"train{suffix}", ids(kaggle_rows[0]), values, header)
    with pytest.raises(SubgridError, match=says):
        convert(KaggleConfig((str(path),), str(grid_file)), tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda n: n.__setitem__(9, n[8]), "is there twice"),
        (lambda n: n.__setitem__(9, n[8] - 1), "comes after a later one"),
        (lambda n: n.__setitem__(-1, 5), "not in the order of the numbers"),
        (lambda n: n.__setitem__(-1, 10_091_520), "beyond the published training file"),
    ],
)
def test_rows_out_of_order_are_refused(tmp_path, kaggle_rows, write_kaggle, grid_file, change, says):
    numbers = kaggle_rows[0].copy()
    change(numbers)
    path = write_kaggle(tmp_path / "train.parquet", ids(numbers), kaggle_rows[1], TRAIN_HEADER)
    with pytest.raises(SubgridError, match=says):
        convert(KaggleConfig((str(path),), str(grid_file)), tmp_path / "s.zarr")


def test_other_ids_are_refused(tmp_path, kaggle_rows, write_kaggle, grid_file):
    names = ids(kaggle_rows[0])
    names[3] = "test_3"
    path = write_kaggle(tmp_path / "train.parquet", names, kaggle_rows[1], TRAIN_HEADER)
    with pytest.raises(SubgridError, match="row id 'test_3' is not train_NUMBER"):
        convert(KaggleConfig((str(path),), str(grid_file)), tmp_path / "s.zarr")


def test_the_same_rows_in_two_files_are_refused(tmp_path, kaggle_train, kaggle_rows, write_kaggle, grid_file):
    again = write_kaggle(tmp_path / "again.parquet", ids(kaggle_rows[0][50:]), kaggle_rows[1][50:], TRAIN_HEADER)
    with pytest.raises(SubgridError, match="share a range of ids"):
        convert(KaggleConfig((str(kaggle_train), str(again)), str(grid_file)), tmp_path / "s.zarr")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path):
    lines = path.read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace(",", ",twelve", 1)
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("suffix", "damage", "says"),
    [
        (".parquet", truncate, "is damaged, or not a parquet file"),
        (".csv", truncate, "damaged within"),
        (".csv", spoil, "damaged within"),
        (".csv", lambda path: path.write_text(""), "header is not the competition's"),
        (".csv", lambda path: path.write_text(",".join(TRAIN_HEADER) + "\n"), "has no row"),
        (".csv", lambda path: path.write_bytes(b"PK\x03\x04\xff\xfe\n"), "not a CSV file; unpack it"),
    ],
)
def test_damaged_files_are_refused(tmp_path, kaggle_rows, write_kaggle, grid_file, suffix, damage, says):
    path = write_kaggle(tmp_path / f"train{suffix}", ids(kaggle_rows[0]), kaggle_rows[1], TRAIN_HEADER)
    damage(path)
    with pytest.raises(SubgridError, match=says) as error:
        convert(KaggleConfig((str(path),), str(grid_file)), tmp_path / "s.zarr")
    assert str(path) in str(error.value)


def test_text_in_a_parquet_column_is_refused(tmp_path, kaggle_rows, write_kaggle, grid_file):
    path = write_kaggle(tmp_path / "train.parquet", ids(kaggle_rows[0]), kaggle_rows[1], TRAIN_HEADER)
    table = pq.read_table(path)
    table = table.set_column(7, TRAIN_HEADER[7], pa.array(["warm"] * table.num_rows))
    pq.write_table(table, path)
    with pytest.raises(SubgridError, match="column state_t_6 holds string, numbers are needed"):
        convert(KaggleConfig((str(path),), str(grid_file)), tmp_path / "s.zarr")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grid": ""}, "--grid"),
        ({"validation_share": 1.5}, "validation_share"),
        ({"validation_share": 0.6, "test_share": 0.4}, "below 1"),
        ({"variables": "speedy"}, "not of ClimSim"),
        ({"variables": "kaggel"}, "kaggle"),
        ({"files": ()}, "no file"),
    ],
)
def test_wrong_settings_are_usage_errors(tmp_path, kaggle_train, grid_file, changes, says):
    settings = {"files": (str(kaggle_train),), "grid": str(grid_file), **changes}
    with pytest.raises(UsageError, match=says):
        convert(KaggleConfig(**settings), tmp_path / "s.zarr")


def test_a_set_that_needs_other_files_is_refused(tmp_path, kaggle_train, grid_file):
    with pytest.raises(UsageError, match="do not hold cam_in_SNOWHICE"):
        convert(KaggleConfig((str(kaggle_train),), str(grid_file), variables="v2_rh"), tmp_path / "s.zarr")


def test_it_trains_and_is_scored_by_the_competitions_rule(tmp_path, kaggle_store):
    from subgrid.evaluation.offline import EvaluateConfig, evaluate
    from subgrid.training import TrainConfig, fit

    settings = {"epochs": 1, "batch_size": 32}
    config = TrainConfig(
        data=str(kaggle_store.path),
        variables="kaggle",
        network={"widths": [8]},
        recipe_settings=settings,
        precision="32-true",
        buffer_blocks=4,
    )
    fit(config, tmp_path / "run")
    asked = EvaluateConfig(str(tmp_path / "run"), str(kaggle_store.path), metrics="kaggle")
    found = evaluate(asked, tmp_path / "scores")["metrics"]["kaggle"]
    assert found["r2_368"] == pytest.approx((308 * found["r2_308"] + 60) / 368, rel=1e-12)
    assert open_store(kaggle_store.path)["test"].samples == 16
