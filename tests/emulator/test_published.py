"""Published TorchScript networks: their own arithmetic comes out, in our order; what does not fit is refused."""

from __future__ import annotations

import json
import logging
import zipfile

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import subgrid as sg
from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.variables import offsets, variable_set
from subgrid.emulator import FlatEmulator, PublishedEmulator, load, load_emulator, load_for_store, save_emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.emulator.probe import plausible_columns
from subgrid.emulator.published import READ_AS
from subgrid.hosts.base import check_fits
from subgrid.physics.vertical import VerticalGrid

GRID = VerticalGrid.sigma(np.linspace(0.0, 1.0, 61).tolist())


class Echo(nn.Module):
    """Takes so many numbers and gives so many."""

    def __init__(self, takes: int, gives: int) -> None:
        super().__init__()
        self.layer = nn.Linear(takes, gives)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * 1e-30)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x[:, :60] = 0.0
        return x[:, :368] * 1.0


class Nan(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(-1.0 - x[:, :368].abs())


class NanOfZeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] / x[:, :1] + 0.0 * x[:, 60:428].clamp(-1.0, 1.0)


class Cuda(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :368] + torch.ones([1], device="cuda")


def save(module, path):
    torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="module")
def emulator(published_file):
    return sg.load(published_file, variables="v2_rh_mc", grid=GRID)


def columns(variables, levels=60, seed=0):
    x = plausible_columns(variables, levels)
    return torch.from_numpy(
        (x * (1.0 + 0.01 * np.random.default_rng(seed).standard_normal(x.shape))).astype(np.float32)
    )


def test_it_stands_where_an_emulator_stands(emulator, published_file):
    assert isinstance(emulator, PublishedEmulator) and emulator.variables.name == "v2_rh"
    assert (emulator.levels, emulator.time_step, emulator.grid) == (60, 1200.0, GRID)
    assert emulator.counters == [] and emulator.memory_size == 0
    assert emulator.metadata == {"published": "published.pt"}
    flat = FlatEmulator(emulator)
    assert (flat.n_in, flat.n_out) == (557, 368)


@pytest.mark.parametrize("batch", [1, 7, 8])
def test_its_own_arithmetic_comes_out(emulator, batch, wrapper):
    x = columns(emulator.variables)[:batch]
    before = x.clone()
    with torch.inference_mode():
        y, diagnostics = FlatEmulator(emulator)(x)
        wanted = wrapper()(x)
    assert torch.equal(y, wanted) and torch.equal(x, before)
    assert diagnostics.shape == (batch, 0)
    place = offsets(emulator.variables.targets, 60)
    total = y[:, place["ptend_q0002"]] + y[:, place["ptend_q0003"]]
    qn = x[:, 120:180] + x[:, 180:240]
    np.testing.assert_allclose(total, -qn / 7200.0, rtol=1e-3, atol=1e-14)


def test_a_file_of_v2_takes_the_scalars_before_the_gases(tmp_path):
    class Order(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            # ps is number 360 in the published v2 and number 540 in ours
            return torch.cat([x[:, :360], x[:, 360:368]], dim=1)

    emulator = load(save(Order(), tmp_path / "v2.pt"), "v2")
    x = columns(emulator.variables)
    ours = offsets(emulator.variables.inputs, 60)
    with torch.inference_mode():
        y = FlatEmulator(emulator)(x)[0]
    assert ours["state_ps"] == slice(540, 541)
    assert torch.equal(y[:, 360], x[:, 540]) and torch.equal(y[:, 367], x[:, 547])


@pytest.mark.parametrize(
    ("named", "takes", "gives", "read_as"),
    [
        ("v1", 124, 128, "v1"),
        ("v2", 557, 368, "v2"),
        ("v2_rh", 557, 368, "v2_rh"),
        ("v2_rh_mc", 557, 368, "v2_rh"),
        ("v2_rh_mc", 557, 676, "v2_rh"),
        ("v2_rh_mc", 557, 308, "v2_rh_mc"),
        ("v3", 737, 368, "v3"),
        ("v4", 1525, 368, "v4"),
        ("v5", 1525, 368, "v4"),
        ("v5", 1405, 308, "v5"),
        ("v6", 1519, 368, "v6_raw"),
        ("v6", 1519, 676, "v6_raw"),
        ("v6", 1399, 308, "v6"),
        ("v6_raw", 1519, 368, "v6_raw"),
    ],
)
def test_every_published_contract(tmp_path, named, takes, gives, read_as):
    emulator = load(save(Echo(takes, gives), tmp_path / "echo.pt"), named)
    assert emulator.variables.name == read_as
    flat = FlatEmulator(emulator)
    assert flat.n_in == takes and flat.n_out == min(gives, flat.n_out)
    with torch.inference_mode():
        assert FlatEmulator(emulator)(columns(emulator.variables))[0].shape == (8, flat.n_out)
    assert set(READ_AS.values()) <= {"v2_rh", "v4", "v6_raw"}


def test_confidences_are_offered_beside_the_tendencies(tmp_path, wrapper):
    emulator = load(save(wrapper(confidence=True), tmp_path / "c.pt"), "v2_rh_mc")
    x = columns(emulator.variables)
    parts = unflatten(x, 9, 60)
    with torch.inference_mode():
        assert torch.equal(FlatEmulator(emulator)(x)[0], wrapper()(x))
        assert torch.equal(emulator.confidence(*parts), torch.full((8, 308), 2.0))


def test_without_confidences_there_are_none(emulator):
    assert emulator.confidence(*unflatten(columns(emulator.variables), 9, 60)).shape == (8, 0)


def test_other_levels_come_with_the_grid(tmp_path):
    grid = VerticalGrid.sigma(np.linspace(0.0, 1.0, 7).tolist())
    emulator = load(save(Echo(9 * 6 + 17, 6 * 6 + 8), tmp_path / "six.pt"), "v2_rh", grid, time_step=600.0)
    assert (emulator.levels, emulator.time_step) == (6, 600.0)


def test_without_a_grid_all_works_but_what_needs_one(published_file):
    emulator = load(published_file, "v2_rh_mc")
    assert emulator.levels == 60 and not emulator.has_grid
    with torch.inference_mode():
        assert FlatEmulator(emulator)(columns(emulator.variables))[0].shape == (8, 368)
    with pytest.raises(SubgridError, match="give grid="):
        emulator.grid.n_levels  # noqa: B018


def test_loading_says_that_code_is_executed(published_file, caplog):
    with caplog.at_level(logging.WARNING, "subgrid"):
        load(published_file, "v2_rh_mc")
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1 and said[0].startswith(f"{published_file} is TorchScript: loading it executes code")


def test_variables_must_be_named(published_file):
    with pytest.raises(UsageError, match=r"does not say what it reads: name its variables.*v2_rh_mc"):
        load(published_file)
    with pytest.raises(UsageError, match="unknown variable set 'v2_rh_cm'; did you mean v2_rh"):
        load(published_file, "v2_rh_cm")


def test_settings_are_refused(published_file):
    with pytest.raises(UsageError, match="is a published network, which has no settings clip_outputs"):
        load(published_file, "v2_rh_mc", clip_outputs=False)


def test_a_wrong_width_names_what_was_expected_and_found(tmp_path):
    path = save(Echo(1525, 368), tmp_path / "v4.pt")
    with pytest.raises(SubgridError, match=r"variables=v2_rh: it does not take 557 numbers.*could be variables=v4$"):
        load(path, "v2_rh")
    path = save(Echo(557, 300), tmp_path / "odd.pt")
    with pytest.raises(SubgridError, match=r"gives \(8, 300\), expected is \(8, 368\), or \(8, 676\) with confid"):
        load(path, "v2_rh")


@pytest.mark.parametrize("module", [Nan(), Cuda()])
def test_what_cannot_be_used_is_refused(tmp_path, module):
    if isinstance(module, Cuda) and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    said = {"Nan": "gives NaN or infinity for plausible columns", "Cuda": "it needs CUDA"}[type(module).__name__]
    with pytest.raises(SubgridError, match=said):
        load(save(module, tmp_path / "m.pt"), "v2_rh")


def test_nan_of_padding_rows_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "subgrid"):
        load(save(NanOfZeros(), tmp_path / "m.pt"), "v2_rh")
    assert "gives NaN or infinity for columns of zeros" in caplog.text


def test_a_change_in_place_is_told_and_does_no_harm(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "subgrid"):
        emulator = load(save(InPlace(), tmp_path / "m.pt"), "v2_rh")
    assert "changes its input in place; it is handed a copy" in caplog.text
    x = columns(emulator.variables)
    before = x.clone()
    FlatEmulator(emulator)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", ["text", "empty", "weights", "cut"])
def test_what_is_not_torchscript_is_refused(tmp_path, published_file, kind):
    path = tmp_path / "other.pt"
    if kind == "weights":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        whole = published_file.read_bytes()
        path.write_bytes({"text": b"not a model", "empty": b"", "cut": whole[: len(whole) // 2]}[kind])
    with pytest.raises(SubgridError, match=r"other\.pt is not TorchScript \("):
        load(path, "v2_rh")


def test_damaged_torchscript_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "damaged.pt", "w") as archive:
        archive.writestr("net/code/net.py", "class Net(Module): pass")
    with pytest.raises(SubgridError, match=r"damaged\.pt is TorchScript that this machine cannot load"):
        load(tmp_path / "damaged.pt", "v2_rh")


def test_an_absent_file_is_an_absent_emulator(tmp_path):
    with pytest.raises(SubgridError, match="holds no emulator"):
        load(tmp_path / "absent.pt", "v2_rh")


def test_a_saved_one_comes_back_if_it_is_trusted(emulator, tmp_path, caplog):
    folder = save_emulator(emulator, tmp_path / "e")
    assert sorted(p.name for p in folder.iterdir()) == ["emulator.json", "published.pt"]
    with pytest.raises(SubgridError, match=r"executes code as it is loaded; if you trust .* trust=True"):
        load(folder)
    with pytest.raises(SubgridError, match="published network, which cannot be trained"):
        load_emulator(folder)
    with caplog.at_level(logging.WARNING, "subgrid"):
        again = load(folder, trust=True)
    assert "executes code" in caplog.text
    assert (again.grid, again.time_step, again.metadata) == (GRID, 1200.0, emulator.metadata)
    assert again.variables == emulator.variables
    x = columns(emulator.variables)
    with torch.inference_mode():
        assert torch.equal(FlatEmulator(again)(x)[0], FlatEmulator(emulator)(x)[0])
    once_more = save_emulator(again, folder)  # onto itself
    assert load(once_more, trust=True).metadata == emulator.metadata


def test_without_a_grid_it_is_saved_too(published_file, tmp_path):
    folder = save_emulator(load(published_file, "v2_rh_mc"), tmp_path / "e")
    assert not load(folder, trust=True).has_grid


def test_a_damaged_description_is_refused(emulator, tmp_path):
    folder = save_emulator(emulator, tmp_path / "e")
    path = folder / "emulator.json"
    whole = json.loads(path.read_text())
    for key in ("vertical_grid", "variables_named", "time_step", "metadata"):
        path.write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(SubgridError, match=rf"emulator\.json is damaged .*{key}"):
            load(folder, trust=True)
    path.write_text(json.dumps(whole))
    (folder / "published.pt").unlink()
    with pytest.raises(SubgridError, match=r"published\.pt is not TorchScript"):
        load(folder, trust=True)


def test_a_description_cannot_name_another_file(emulator, tmp_path):
    folder = save_emulator(emulator, tmp_path / "e")
    save(Echo(557, 368), tmp_path / "evil.pt")
    path = folder / "emulator.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "published": "../evil.pt"}))
    x = columns(emulator.variables)
    with torch.inference_mode():
        assert torch.equal(FlatEmulator(load(folder, trust=True))(x)[0], FlatEmulator(emulator)(x)[0])


def test_a_folder_takes_no_variables(tiny_run):
    with pytest.raises(UsageError, match="says itself what it reads"):
        load(tiny_run, "speedy")
    assert load(tiny_run, clip_outputs=False).config.clip_outputs is False


def test_snow_on_ice_has_its_fill_where_the_store_has_the_mask(published_file, climsim_store):
    store = climsim_store("v2_rh", 60, mask=True, splits=(("test", 64),))
    emulator = load_for_store(published_file, store, "v2_rh_mc")
    x = store["test"].read_variables(emulator.variables.inputs, 0)
    snow = x[:, offsets(emulator.variables.inputs, 60)["cam_in_SNOWHICE"]]
    np.testing.assert_array_equal(snow, np.float32(1e30) * store["test"].read("scoring", 0))
    assert emulator.grid == store.grid.vertical
    plain = climsim_store("v2_rh", 60, splits=(("test", 64),))
    x = plain["test"].read_variables(load_for_store(published_file, plain, "v2_rh_mc").variables.inputs, 0)
    assert (x[:, 546 + 9] == 0).all()


def test_labelled_prediction(emulator, wrapper):
    import xarray as xr

    x = columns(emulator.variables)
    place = offsets(emulator.variables.inputs, 60)
    held = {}
    for v in emulator.variables.inputs:
        values = x[:, place[v.name]].numpy()
        held[v.name] = (("n", "level"), values) if v.kind == "profile" else (("n",), values[:, 0])
    found = sg.predict(emulator, xr.Dataset(held))
    np.testing.assert_array_equal(found.ptend_t.values, wrapper()(x)[:, :60].numpy())


def test_a_host_without_its_variables_refuses_it(published_file):
    from subgrid.hosts.base import host

    speedy = host("speedy")
    emulator = load(published_file, "v2_rh_mc", GRID)
    with pytest.raises(UsageError, match="the emulator has 60 levels, host 'speedy' has 8"):
        check_fits(emulator, speedy)


def test_a_host_refuses_the_variables_that_it_has_not(tmp_path):
    from subgrid.hosts.base import host

    speedy = host("speedy")
    path = save(Echo(9 * 8 + 17, 6 * 8 + 8), tmp_path / "eight.pt")
    emulator = load(path, "v2_rh", speedy.grid.vertical, speedy.time_step)
    with pytest.raises(UsageError, match=r"does not fit host .speedy.: it reads state_t, state_rh"):
        check_fits(emulator, speedy)


def test_our_own_export_comes_back_in_our_order(make_emulator, tiny_store, tmp_path):
    from subgrid.deployment import ExportConfig, export

    ours = make_emulator()
    save_emulator(ours, tmp_path / "ours")
    export(tmp_path / "ours", tmp_path / "export", ExportConfig(str(tiny_store.path)))
    again = load_for_store(tmp_path / "export" / "model.pt", tiny_store, "speedy")
    x = torch.from_numpy(tiny_store["test"].read_variables(ours.variables.inputs, 0)[:50].copy())
    with torch.inference_mode():
        assert torch.equal(FlatEmulator(again)(x)[0], FlatEmulator(ours)(x)[0])
        p, s = unflatten(x, 4, 8)
        assert torch.equal(flatten(*again(p, s, x[:, :0])[:2]), FlatEmulator(ours)(x)[0])
    assert again.variables == variable_set("speedy")
