"""Submissions to the competition: their form, their values against plain numpy, their score, and what is refused."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.kaggle import files
from subgrid.columns.kaggle.convert import KaggleConfig, convert
from subgrid.columns.kaggle.layout import (
    INPUT_LABELS,
    SUBMISSION_HEADER,
    TARGET_LABELS,
    TEST_HEADER,
    TRAIN_HEADER,
    zero_weight,
)
from subgrid.columns.variables import channel_labels, variable_set
from subgrid.emulator import save_emulator
from subgrid.emulator.flat import FlatEmulator
from subgrid.evaluation import submission
from subgrid.evaluation.submission import SubmissionConfig, write_submission
from subgrid.scores.kaggle import PooledR2, competition_scores

ROWS = 70
NAMES = [f"test_{7 * k}" for k in range(ROWS)]


@pytest.fixture(scope="module")
def weight():
    found = 10.0 ** np.random.default_rng(3).uniform(0.0, 15.0, 368)
    found[zero_weight()] = 0.0
    found[132:135] = 0.0
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, kaggle_values, write_kaggle, weight):
    """A test file and a sample submission, each as CSV and as parquet."""
    made = tmp_path_factory.mktemp("competition")
    values = kaggle_values(ROWS, seed=5)
    for suffix in (".csv", ".parquet"):
        write_kaggle(made / f"test{suffix}", NAMES, values[:, :556], TEST_HEADER)
        write_kaggle(made / f"sample{suffix}", NAMES, np.tile(weight, (ROWS, 1)), SUBMISSION_HEADER)
    return made


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory, make_emulator, kaggle_store):
    """An emulator of the competition's own variables, and its folder."""
    emulator = make_emulator("kaggle", store=kaggle_store)
    return emulator, save_emulator(emulator, tmp_path_factory.mktemp("run") / "emulator")


def predicted(emulator, values):
    """What the emulator gives for (row, 556), by label, without the code under test."""
    found = dict(zip(INPUT_LABELS, values.T, strict=True))
    x = np.stack([found[label] for label in channel_labels(emulator.variables.inputs, 60)], axis=1)
    with torch.inference_mode():
        y = FlatEmulator(emulator).eval()(torch.from_numpy(x.astype(np.float32)))[0].double().numpy()
    return dict(zip(channel_labels(emulator.variables.targets, 60), y.T, strict=True))


def read(path):
    """Header, ids and values of a submission."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        values = np.stack([table[name].to_numpy() for name in table.column_names[1:]], axis=1)
        return table.column_names, table["sample_id"].to_pylist(), values
    with path.open() as file:
        header, *rows = csv.reader(file)
    return header, [row[0] for row in rows], np.array([[float(v) for v in row[1:]] for row in rows])


@pytest.mark.parametrize("source", [".csv", ".parquet"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_submission_is_prediction_times_weight(
    tmp_path, folder, plain_run, kaggle_values, weight, monkeypatch, source, suffix
):
    monkeypatch.setattr(files, "CHUNK", 250_000)
    monkeypatch.setattr(files, "BATCH", 24)
    emulator, run = plain_run
    out = tmp_path / f"submission{suffix}"
    config = SubmissionConfig(str(run), str(folder / f"test{source}"), str(folder / f"sample{source}"))
    told = write_submission(config, out)
    header, ids, values = read(out)
    assert header == SUBMISSION_HEADER and ids == NAMES
    expected = predicted(emulator, kaggle_values(ROWS, seed=5)[:, :556])
    wanted = np.stack([expected[label] for label in TARGET_LABELS], axis=1) * weight
    assert np.allclose(values, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max(axis=0))
    assert (values[:, weight == 0.0] == 0.0).all() and not np.signbit(values[:, weight == 0.0]).any()
    assert told["rows"] == ROWS and told["zero_weights"] == 63 and "metrics" not in told


def test_csv_and_parquet_hold_equal_numbers(tmp_path, folder, plain_run):
    config = SubmissionConfig(str(plain_run[1]), str(folder / "test.csv"), str(folder / "sample.csv"))
    outs = [tmp_path / "a.csv", tmp_path / "b.parquet"]
    for out in outs:
        write_submission(config, out)
    assert np.array_equal(read(outs[0])[2], read(outs[1])[2])


def test_without_a_sample_submission_weights_are_those_of_the_present_rule(tmp_path, folder, plain_run):
    out = tmp_path / "s.parquet"
    told = write_submission(SubmissionConfig(str(plain_run[1]), str(folder / "test.parquet")), out)
    values = read(out)[2]
    assert told["zero_weights"] == 60
    assert (values[:, zero_weight()] == 0.0).all() and (values[:, ~zero_weight()] != 0.0).any(axis=0).all()


def test_cloud_water_is_split_by_the_ramp_on_the_temperature_after_the_step(
    tmp_path, folder, kaggle_train, kaggle_values, grid_file, make_emulator
):
    config = KaggleConfig((str(kaggle_train),), str(grid_file), variables="kaggle_rh_mc")
    store = convert(config, tmp_path / "mc.zarr")
    emulator = make_emulator("kaggle_rh_mc", store=store, **variable_set("kaggle_rh_mc").emulator)
    run = save_emulator(emulator, tmp_path / "emulator")
    write_submission(SubmissionConfig(str(run), str(folder / "test.csv")), tmp_path / "s.parquet")
    found = dict(zip(SUBMISSION_HEADER[1:], read(tmp_path / "s.parquet")[2].T, strict=True))
    inputs = dict(zip(INPUT_LABELS, kaggle_values(ROWS, seed=5)[:, :556].T, strict=True))
    x = _multiplied(inputs, emulator)
    with torch.inference_mode():
        y = FlatEmulator(emulator).eval()(torch.from_numpy(x.astype(np.float32)))[0].double().numpy()
    raw = dict(zip(channel_labels(emulator.variables.targets, 60), y.T, strict=True))
    for k in (15, 30, 45, 59):
        t = inputs[f"state_t_{k}"] + 1200.0 * raw[f"ptend_t_{k}"]
        total = inputs[f"state_q0002_{k}"] + inputs[f"state_q0003_{k}"] + 1200.0 * raw[f"ptend_qn_{k}"]
        liquid = np.clip((t - 253.16) / 20.0, 0.0, 1.0)
        expected = (liquid * total - inputs[f"state_q0002_{k}"]) / 1200.0
        scale = np.abs(total).max() / 1200.0
        assert np.allclose(found[f"ptend_q0002_{k}"], expected, rtol=1e-5, atol=1e-5 * scale)
        both = found[f"ptend_q0002_{k}"] + found[f"ptend_q0003_{k}"]
        assert np.allclose(both, raw[f"ptend_qn_{k}"], rtol=1e-5, atol=1e-5 * scale)


def _multiplied(inputs, emulator):
    """The inputs of ``kaggle_rh_mc`` by hand, (row, channel)."""
    from subgrid.physics.moisture import saturation_vapour_pressure

    grid, found = emulator.grid, dict(inputs)
    for k in range(60):
        pressure = grid.hyam[k] * grid.p0 + grid.hybm[k] * inputs["state_ps"]
        t = inputs[f"state_t_{k}"]
        found[f"state_rh_{k}"] = 461.0 * inputs[f"state_q0001_{k}"] * pressure / (287.0 * saturation_vapour_pressure(t))
        found[f"state_qn_{k}"] = inputs[f"state_q0002_{k}"] + inputs[f"state_q0003_{k}"]
        found[f"liq_partition_{k}"] = np.clip((t - 253.16) / 20.0, 0.0, 1.0)
    return np.stack([found[label] for label in channel_labels(emulator.variables.inputs, 60)], axis=1)


def test_a_file_with_the_truth_is_scored(tmp_path, kaggle_train, kaggle_rows, plain_run):
    emulator, run = plain_run
    found = write_submission(SubmissionConfig(str(run), str(kaggle_train)), tmp_path / "s.csv")["metrics"]["kaggle"]
    expected, truth = predicted(emulator, kaggle_rows[1][:, :556]), kaggle_rows[1][:, 556:]
    scores = PooledR2(368)
    scores.update(np.stack([expected[label] for label in TARGET_LABELS], axis=1), truth)
    wanted = competition_scores(scores.result(), (~zero_weight()).astype(float))
    assert found["r2_308"] == pytest.approx(wanted["r2_308"], rel=1e-4)
    assert found["r2_368"] == pytest.approx((308 * found["r2_308"] + 60) / 368, rel=1e-12)


def test_an_input_that_the_file_lacks_must_be_given(tmp_path, folder, climsim_store):
    """Emulators of v2_rh read the snow depth over ice, which the competition left out."""
    from subgrid.emulator import EmulatorConfig, build_emulator

    store = climsim_store("v2_rh", levels=60)
    variables = store.variable_set("v2_rh")
    emulator = build_emulator(
        "mlp", variables, store.grid.vertical, 1200.0, EmulatorConfig(**variables.emulator), widths=[8]
    )
    run = save_emulator(emulator.eval(), tmp_path / "emulator")
    asked = {"emulator": str(run), "test": str(folder / "test.parquet")}
    with pytest.raises(UsageError, match=r"do not hold cam_in_SNOWHICE.*--fill"):
        write_submission(SubmissionConfig(**asked), tmp_path / "s.csv")
    told = write_submission(SubmissionConfig(**asked, fills={"cam_in_SNOWHICE": 0.0}), tmp_path / "s.csv")
    assert told["rows"] == ROWS


class Passing(torch.nn.Module):
    """A published network of v2_rh: heating by its humidity, and one output that is its snow depth over ice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heating = 1e-5 * x[:, 60:120]
        return torch.cat([heating, 1e-9 * x[:, 60:360], x[:, 540:547], x[:, 555:556]], dim=1)


def test_published_torchscript_reads_the_file_with_a_grid(tmp_path, folder, grid_file, kaggle_values):
    from subgrid.columns.climsim.grid import read_grid
    from subgrid.physics.moisture import relative_humidity

    script = tmp_path / "network.pt"
    torch.jit.save(torch.jit.script(Passing()), script)
    asked = {"emulator": str(script), "test": str(folder / "test.csv"), "variables": "v2_rh"}
    fills = {"cam_in_SNOWHICE": 3.0}
    with pytest.raises(UsageError, match="--grid"):
        write_submission(SubmissionConfig(**asked, fills=fills), tmp_path / "s.parquet")
    write_submission(SubmissionConfig(**asked, fills=fills, grid=str(grid_file)), tmp_path / "s.parquet")
    found = dict(zip(SUBMISSION_HEADER[1:], read(tmp_path / "s.parquet")[2].T, strict=True))
    inputs = dict(zip(INPUT_LABELS, kaggle_values(ROWS, seed=5)[:, :556].T, strict=True))
    pressure = np.asarray(read_grid(grid_file).vertical.mid_pressure(inputs["state_ps"]))[:, 40]
    wanted = 1e-5 * relative_humidity(inputs["state_q0001_40"], inputs["state_t_40"], pressure, "sam")
    assert np.allclose(found["ptend_t_40"], wanted, rtol=1e-6)
    assert (found["cam_out_SOLLD"] == 3.0).all()
    assert np.allclose(found["cam_out_NETSW"], inputs["state_ps"], rtol=1e-6)


def test_a_file_to_read_is_not_overwritten(folder, plain_run):
    test = folder / "test.csv"
    before = test.read_bytes()
    with pytest.raises(UsageError, match="one of the files to read"):
        write_submission(SubmissionConfig(str(plain_run[1]), str(test)), test)
    assert test.read_bytes() == before


def test_an_id_that_csv_cannot_hold_is_refused(tmp_path, plain_run, kaggle_values, write_kaggle):
    names = ["test_0", 'test,"1']
    test = write_kaggle(tmp_path / "t.parquet", names, kaggle_values(2)[:, :556], TEST_HEADER)
    with pytest.raises(SubgridError, match=r"write a \.parquet file"):
        write_submission(SubmissionConfig(str(plain_run[1]), str(test)), tmp_path / "s.csv")
    write_submission(SubmissionConfig(str(plain_run[1]), str(test)), tmp_path / "s.parquet")
    assert read(tmp_path / "s.parquet")[1] == names


def test_an_emulator_without_the_outputs_is_refused(tmp_path, folder, make_emulator, kaggle_store):
    run = save_emulator(make_emulator("v1", store=kaggle_store), tmp_path / "emulator")
    with pytest.raises(UsageError, match="does not predict ptend_q0002"):
        write_submission(SubmissionConfig(str(run), str(folder / "test.csv")), tmp_path / "s.csv")


def test_an_emulator_of_other_levels_is_refused(tmp_path, folder, make_emulator, climsim_store):
    run = save_emulator(make_emulator("v2", store=climsim_store("v2")), tmp_path / "emulator")
    with pytest.raises(UsageError, match="6 levels"):
        write_submission(SubmissionConfig(str(run), str(folder / "test.csv")), tmp_path / "s.csv")


def shorter(names, values):
    return names[:-1], values[:-1]


def longer(names, values):
    return [*names, "test_9999"], np.concatenate([values, values[:1]])


def swapped(names, values):
    return [*names[:5], names[6], names[5], *names[7:]], values


def nan(names, values):
    values[9, 61] = np.nan
    return names, values


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (shorter, "has 69 rows, .* has 70"),
        (longer, "has at least 71 rows, .* has 70"),
        (swapped, "row 6 is test_42, in .* it is test_35"),
        (nan, "row test_63: column state_q0001_1 is empty, NaN or infinite"),
    ],
)
def test_rows_that_do_not_fit_leave_nothing_behind(
    tmp_path, folder, plain_run, kaggle_values, write_kaggle, damage, says
):
    names, values = damage(list(NAMES), kaggle_values(ROWS, seed=5)[:, :556].copy())
    test = write_kaggle(tmp_path / "test.parquet", names, values, TEST_HEADER)
    out = tmp_path / "out" / "s.csv"
    out.parent.mkdir()
    with pytest.raises(SubgridError, match=says):
        write_submission(SubmissionConfig(str(plain_run[1]), str(test), str(folder / "sample.csv")), out)
    assert list(out.parent.iterdir()) == []


def test_an_emulator_that_gives_nan_is_refused_where_it_counts(tmp_path, folder, plain_run, monkeypatch):
    whole = submission.all_targets

    def broken(*given):
        found = whole(*given)
        found[:, TARGET_LABELS.index("ptend_u_3")] = np.nan  # of weight 0
        found[2, channel] = np.inf
        return found

    monkeypatch.setattr(submission, "all_targets", broken)
    config = SubmissionConfig(str(plain_run[1]), str(folder / "test.csv"))
    channel = TARGET_LABELS.index("ptend_v_4")
    write_submission(config, tmp_path / "s.parquet")
    assert np.isfinite(read(tmp_path / "s.parquet")[2]).all()
    channel = TARGET_LABELS.index("ptend_v_14")
    with pytest.raises(SubgridError, match="NaN or infinity at row test_14, ptend_v_14"):
        write_submission(config, tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.parametrize(
    ("changes", "out", "says"),
    [
        ({}, "s.txt", "must end in .csv or .parquet"),
        ({"test": "sample.csv"}, "s.csv", "header is not the competition's"),
        ({"weights": "test.csv"}, "s.csv", "header is not the competition's"),
        ({"test": "none.csv"}, "s.csv", "does not exist"),
        ({"emulator": "none"}, "s.csv", "holds no emulator"),
    ],
)
def test_wrong_files_are_refused(tmp_path, folder, plain_run, changes, out, says):
    settings = {"emulator": str(plain_run[1]), "test": str(folder / "test.csv")}
    settings.update({key: str(folder / name) for key, name in changes.items()})
    with pytest.raises(SubgridError, match=says):
        write_submission(SubmissionConfig(**settings), tmp_path / out)
    assert not (tmp_path / out).exists()


def test_truth_files_have_the_header_of_the_training_file(tmp_path, plain_run, kaggle_rows, write_kaggle):
    header = [*TRAIN_HEADER[:-1], "cam_out_X"]
    names = [f"train_{n}" for n in kaggle_rows[0]]
    path = write_kaggle(tmp_path / "train.parquet", names, kaggle_rows[1], header)
    with pytest.raises(SubgridError, match=r"missing cam_out_SOLLD \(1\); unknown cam_out_X \(1\)"):
        write_submission(SubmissionConfig(str(plain_run[1]), str(path)), tmp_path / "s.csv")


def test_the_sets_of_the_competition_are_those_of_climsim_without_snow_over_ice():
    for ours, theirs in (("kaggle", "v2"), ("kaggle_rh", "v2_rh"), ("kaggle_rh_mc", "v2_rh_mc")):
        left = [v.name for v in variable_set(theirs).inputs if v.name != "cam_in_SNOWHICE"]
        assert [v.name for v in variable_set(ours).inputs] == left
        assert variable_set(ours).targets == variable_set(theirs).targets
