"""Three representations with the statistics that ClimSim's Kaggle edition published: the right offset, and its own."""

from __future__ import annotations

import os
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.normalisation import REPRESENTATIONS, read_representations
from subgrid.columns.variables import offsets, profiles, variable_set
from subgrid.emulator import EmulatorConfig, build_emulator, load_emulator, save_emulator
from subgrid.emulator.flat import unflatten
from subgrid.training import TrainConfig
from subgrid.training.statistics import fit_transforms

REFERENCE = Path(os.environ.get("SUBGRID_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
EDITION = REFERENCE / "climsim" / "kaggle_edition" / "preprocessing" / "normalizations"
LEVELS = 6
HELD = variable_set("v2_rh_mc")
REPEATED = [v.name for v in profiles(HELD.inputs) if v.name != "liq_partition"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of six levels, as they are published: some channels have no range, and some no number."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("normalizations")
    (folder / "inputs" / "multirepresentation").mkdir(parents=True)
    (folder / "outputs").mkdir()
    values = {}
    for name in REPRESENTATIONS:
        pooled = name.startswith("per_col")
        chosen = [v for v in HELD.inputs if not (pooled or "min_norm" in name) or v.name in REPEATED]
        values[name] = {}
        for v in chosen:
            made = rng.uniform(0.5, 2.0, LEVELS if v.kind == "profile" else ())
            values[name][v.name] = np.full(LEVELS, made[0]) if pooled else made
        if name == "per_lev_div.nc":
            values[name]["pbuf_CH4"][2:] = 0.0
            values[name]["liq_partition"], values["per_lev_sub.nc"]["liq_partition"] = np.ones(LEVELS), np.zeros(LEVELS)
        if name == "per_lev_min_norm.nc":
            values[name] = {key: -100.0 * value for key, value in values[name].items()}
            values[name]["pbuf_CH4"][2:] = np.nan
    for name, held in values.items():
        write(folder / "inputs" / "multirepresentation" / name, held)
    write(folder / "outputs" / "output_scale_std_lowerthred_v7.nc", {v.name: np.float64(10.0) for v in HELD.targets})
    return folder, values


def write(path, held):
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("lev", LEVELS)
        for name, value in held.items():
            target = next((v for v in HELD.targets if v.name == name), None)
            if target is not None and target.kind == "profile":
                value = np.full(LEVELS, value)
            made = file.createVariable(name, "f8", ("lev",) if np.ndim(value) else ())
            made[...] = value


def made(store, folder, **settings):
    config = EmulatorConfig(
        **{
            **HELD.emulator,
            "inputs": "raw",
            "normalization": "official",
            "normalization_folder": str(folder),
            "representation": "multi",
            "clip_inputs": False,
            "prune_outputs": 2,
            **settings,
        }
    )
    torch.manual_seed(0)
    emulator = build_emulator("mlp", store.variable_set("v2_rh_mc"), store.grid.vertical, 1200.0, config, widths=[8])
    fit_transforms(emulator, store["train"])
    return emulator.eval()


@pytest.mark.parametrize("paper_compatible", [False, True])
def test_the_representations_are_those_of_the_files(files, climsim_store, paper_compatible):
    store, (folder, values) = climsim_store("v2_rh_mc", LEVELS), files
    emulator = made(store, folder, paper_compatible=paper_compatible)
    x = store["test"].read_variables(HELD.inputs, 0).astype(np.float64)
    low = np.concatenate([store["train"].read_variables(HELD.inputs, b) for b in range(store["train"].blocks)]).min(0)
    with torch.inference_mode():
        p, s = emulator.encode(*unflatten(torch.from_numpy(x.astype(np.float32)), 9, LEVELS))
    sub, div, col_sub, col_div, minimum = (values[name] for name in REPRESENTATIONS)
    wanted: list[list[np.ndarray]] = [[], [], []]
    place = offsets(HELD.inputs, LEVELS)
    with np.errstate(all="ignore"):
        for v in profiles(HELD.inputs):
            raw, least = x[:, place[v.name]], low[place[v.name]].astype(np.float64)
            wanted[0].append((raw - sub[v.name]) / div[v.name])
            if v.name in REPEATED:
                offset = minimum[v.name] if paper_compatible else (least - sub[v.name]) / div[v.name]
                above = wanted[0][-1] - offset
                wanted[1].append((raw - col_sub[v.name]) / col_div[v.name])
                wanted[2].append(np.sign(above) * np.log1p(np.abs(above)))
    found = p.double().numpy()
    assert found.shape[2] == 25 and np.isfinite(found).all()
    names = [v.name for v in profiles(HELD.inputs)] + REPEATED * 2
    for k, expected in enumerate([*wanted[0], *wanted[1], *wanted[2]]):
        alive = slice(0, 2 if names[k] == "pbuf_CH4" else LEVELS)
        np.testing.assert_allclose(found[:, alive, k], expected[:, alive], rtol=2e-4, atol=2e-4, err_msg=names[k])
    assert not found[:, 2:, names.index("pbuf_CH4")].any()  # no range, no number
    scalars = [v.name for v in HELD.inputs if v.kind == "scalar"]
    expected = np.stack([(x[:, place[n].start] - sub[n]) / div[n] for n in scalars], axis=1)
    np.testing.assert_allclose(s.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_targets_are_scaled_and_pruned_and_the_folder_is_not_needed_again(files, climsim_store, tmp_path):
    store = climsim_store("v2_rh_mc", LEVELS)
    emulator = made(store, files[0])
    std = emulator.outputs.profile_std
    np.testing.assert_allclose(std[:, 0].numpy(), 0.1, rtol=1e-6)
    assert not std[:2, 1:].any() and std[2:, 1:].all()
    assert emulator.metadata["normalization"] == [*REPRESENTATIONS, "output_scale_std_lowerthred_v7.nc"]
    save_emulator(emulator, tmp_path / "run")
    held = load_emulator(tmp_path / "run", normalization_folder="gone")
    x = torch.from_numpy(store["test"].read_variables(HELD.inputs, 0))
    with torch.inference_mode():
        one, other = (e.encode(*unflatten(x, 9, LEVELS))[0] for e in (emulator, held))
    assert torch.equal(one, other)


def test_features_and_folders_that_are_not_there_are_refused(files, climsim_store, tmp_path):
    store = climsim_store("v2_rh_mc", LEVELS)
    with pytest.raises(UsageError, match=r"emulator\.normalization_folder=DIR"):
        made(store, tmp_path / "nowhere")
    with pytest.raises(SubgridError, match=r"no per_lev_sub\.nc"):
        made(store, tmp_path)
    with pytest.raises(SubgridError, match="has 6 values, 60 are needed"):
        read_representations(files[0], HELD, 60, REPEATED)
    config = TrainConfig(data="x", variables="v2_rh_mc", recipe="multirepresentation")
    assert config.emulator.representation == "multi" and not config.emulator.paper_compatible


@pytest.mark.skipif(not EDITION.is_dir(), reason="no reference data: the published files are not here")
def test_the_published_offset_divides_by_the_mean():
    """The defect itself, in the real files: m_k is min((x - mean) / mean), hundreds and thousands for winds."""
    found = read_representations(EDITION, HELD, 60, REPEATED)
    assert found.offset["state_t"].min() == pytest.approx(-0.4417, abs=1e-3)
    assert found.offset["state_u"].min() == pytest.approx(-543.3, abs=0.1)
    assert found.offset["state_v"].min() == pytest.approx(-15458.3, abs=0.1)
    # what it should have been lies within the range of normal numbers: ozone is above 0, and its least near it
    ozone, mean, span = (values["pbuf_ozone"] for values in (found.offset, found.mean, found.span))
    assert (ozone > -1.0).all() and (mean / span > 1.0).any()
