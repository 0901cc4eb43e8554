"""Emulators on disk: bit for bit back, and refused by name when damaged, foreign or of another version."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from subgrid.base.errors import SubgridError, UsageError
from subgrid.emulator import FlatEmulator, load_emulator, save_emulator


@pytest.fixture
def folder(make_emulator, tmp_path):
    emulator = make_emulator(water="projection")
    emulator.metadata = {"seed": 3}
    return save_emulator(emulator, tmp_path / "emulator")


def change(folder, **values):
    path = folder / "emulator.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rewrite(folder, alter):
    state = load_file(folder / "weights.safetensors")
    alter(state)
    save_file(state, folder / "weights.safetensors")


@pytest.mark.parametrize("architecture", ["mlp", "unet"])
def test_round_trip_is_bitwise(make_emulator, tiny_store, tmp_path, architecture):
    emulator = make_emulator(architecture=architecture, water="precipitation", clip_outputs=False)
    emulator.metadata = {"seed": 3, "store": "x"}
    again = load_emulator(save_emulator(emulator, tmp_path / "e"))
    state = emulator.state_dict()
    assert again.state_dict().keys() == state.keys()
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name]) and value.dtype == state[name].dtype
    assert again.config == emulator.config and again.variables == emulator.variables
    assert again.grid == emulator.grid and again.time_step == emulator.time_step
    assert again.metadata == emulator.metadata and again.counters == emulator.counters
    assert not again.training
    x = torch.from_numpy(tiny_store["test"].read_variables(emulator.variables.inputs, 0))
    with torch.inference_mode():
        for found, wanted in zip(FlatEmulator(again)(x), FlatEmulator(emulator)(x), strict=True):
            assert torch.equal(found, wanted)


def test_a_run_folder_gives_its_emulator(tiny_run):
    assert load_emulator(tiny_run).state_dict().keys() == load_emulator(tiny_run / "emulator").state_dict().keys()


def test_bounds_and_constraints_may_change_after_training(folder):
    changed = load_emulator(folder, water="none", clip_outputs=False, condense=True)
    assert [counter.name for counter in changed.counters[2:]] == ["condensed_water", "positive_water"]
    assert not changed.config.clip_outputs
    with pytest.raises(UsageError, match="unknown emulator setting 'watter'; did you mean water"):
        load_emulator(folder, watter="none")


@pytest.mark.parametrize("changes", [{"inputs": "raw"}, {"saturation": "sam"}])
def test_what_the_network_reads_may_not_change_after_training(folder, changes):
    with pytest.raises(SubgridError, match=r"was trained with inputs=relative_humidity_buoyancy.*cannot change"):
        load_emulator(folder, **changes)


def test_a_folder_without_an_emulator_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SubgridError, match=r"holds no emulator \(emulator\.json is missing\)"):
            load_emulator(path)


@pytest.mark.parametrize("text", ["", "{", '{"kind": "subgrid emulator"', "[]", "{}", '{"kind": "other"}'])
def test_a_damaged_or_foreign_description_is_refused(folder, text):
    (folder / "emulator.json").write_text(text)
    with pytest.raises(SubgridError, match=r"emulator\.json (is not valid JSON|does not describe an emulator)"):
        load_emulator(folder)


def test_another_format_version_names_both(folder):
    change(folder, format_version=7)
    with pytest.raises(SubgridError, match="format version 7, this subgrid reads version 1"):
        load_emulator(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"variables": {}},
        {"variables": 3},
        {"vertical_grid": {"hyai": [0, 1]}},
        {"vertical_grid": None},
        {"time_step": None},
        {"time_step": 0.0},
        {"time_step": float("nan")},
        {"emulator": {"condense_hours": "x"}},
        {"emulator": None},
        {"hyperparameters": None},
        {"hyperparameters": {"widths": "many"}},
        {"hyperparameters": {"depth": 3}},
        {"metadata": 3},
        {"metadata": "text"},
    ],
)
def test_a_description_with_damaged_content_is_refused(folder, values):
    change(folder, **values)
    with pytest.raises(SubgridError):
        load_emulator(folder)


def test_a_description_without_an_entry_is_refused(folder):
    path = folder / "emulator.json"
    whole = json.loads(path.read_text())
    for key in ("architecture", "hyperparameters", "variables", "vertical_grid", "time_step", "emulator"):
        path.write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(SubgridError, match=rf"emulator\.json is damaged .*{key}"):
            load_emulator(folder)


def test_an_unknown_architecture_gives_the_nearest(folder):
    change(folder, architecture="mpl")
    with pytest.raises(UsageError, match="unknown architecture 'mpl'; did you mean mlp"):
        load_emulator(folder)


def test_missing_weights_are_refused(folder):
    (folder / "weights.safetensors").unlink()
    with pytest.raises(SubgridError, match=r"weights\.safetensors does not exist"):
        load_emulator(folder)


@pytest.mark.parametrize("keep", [0, 5, 0.5, -1])
def test_truncated_weights_are_refused(folder, keep):
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(SubgridError, match=r"weights\.safetensors is damaged"):
        load_emulator(folder)


def test_weights_of_another_shape_or_name_are_refused(folder):
    def wider(state):
        state["network.output.bias"] = torch.zeros(45)

    rewrite(folder, wider)
    with pytest.raises(SubgridError, match=r"does not fit its description.*network\.output\.bias"):
        load_emulator(folder)


def test_a_description_of_another_size_does_not_fit_the_weights(folder):
    change(folder, hyperparameters={"widths": [16, 16]})
    with pytest.raises(SubgridError, match="does not fit its description"):
        load_emulator(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["network.output.bias", "inputs.profile_mean"])
def test_weights_with_nan_are_refused_by_name(folder, name, value):
    def damage(state):
        state[name].view(-1)[0] = value

    rewrite(folder, damage)
    with pytest.raises(SubgridError, match=f"holds NaN or infinity in {name}"):
        load_emulator(folder)


def test_a_place_that_cannot_be_written_is_refused(tiny_emulator, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SubgridError, match="cannot write to"):
        save_emulator(tiny_emulator, tmp_path / "file" / "emulator")
