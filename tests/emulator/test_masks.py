"""Hard masks: what the words mean, what the answers are, and that what is masked stays so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.variables import variable_set
from subgrid.deployment.torchscript import script
from subgrid.emulator import FlatEmulator, load_emulator, save_emulator
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.masks import Mask, parsed
from subgrid.training import fit
from subgrid.training.recipes.standard import channel_weights

HEATING, RAIN = "temperature_tendency", "convective_precipitation"


def answers(emulator, store, scripted=False):
    """Of the first block, (n, level, 4) and (n, scalar)."""
    x = torch.from_numpy(store["test"].read_variables(emulator.variables.inputs, 0).copy())
    with torch.inference_mode():
        y = script(FlatEmulator(emulator), x)(x) if scripted else FlatEmulator(emulator).eval()(x)[0]
    return y[:, :32].reshape(-1, 4, 8).transpose(1, 2), y[:, 32:]


def test_what_the_words_mean():
    held = variable_set("v2_rh_mc")
    assert parsed("ptend_u:12", held, 60) == Mask("ptend_u", 0, 11)
    assert parsed("ptend_qn:12-27", held, 60) == Mask("ptend_qn", 12, 27)
    assert parsed("ptend_qn:59-59", held, 60) == Mask("ptend_qn", 59, 59)
    assert parsed("ptend_v", held, 60) == Mask("ptend_v", 0, 59)
    assert parsed("cam_out_PRECC", held, 60).name == "cam_out_PRECC"


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("ptend_w:3", "ptend_u"),
        ("ptend_u:61", "levels are 0 to 59"),
        ("ptend_u:0", "levels are 0 to 59"),
        ("ptend_u:9-3", "levels are 0 to 59"),
        ("ptend_u:40-60", "levels are 0 to 59"),
        ("ptend_u:top", "NAME:12"),
        ("cam_out_PRECC:3", "scalar"),
    ],
)
def test_words_that_mean_nothing_are_refused(word, what):
    with pytest.raises(UsageError, match=f"{word.split(':')[0]}.*{what}"):
        parsed(word, variable_set("v2_rh_mc"), 60)


def test_settings_are_refused_by_name(make_emulator):
    with pytest.raises(UsageError, match=r"emulator\.mask=temperature"):
        EmulatorConfig(mask=HEATING)
    with pytest.raises(UsageError, match=r"unknown emulator\.mask_to 'nought'.*zero"):
        EmulatorConfig(mask_to="nought")
    with pytest.raises(UsageError, match="levels are 0 to 7"):
        make_emulator(mask=[f"{HEATING}:9"])


@pytest.mark.parametrize("to", ["zero", "mean"])
@pytest.mark.parametrize("scripted", [False, True])
def test_masked_outputs_are_constant_and_others_as_they_were(make_emulator, tiny_store, to, scripted):
    plain = make_emulator()
    masked = make_emulator(mask=[f"{HEATING}:2", f"{HEATING}:5-6", RAIN], mask_to=to)
    masked.network.load_state_dict(plain.network.state_dict())
    p, s = answers(masked, tiny_store, scripted)
    wanted_p, wanted_s = answers(plain, tiny_store)
    at = [0, 1, 5, 6]
    mean = tiny_store["train"].variable_statistics(plain.variables.targets)["mean"]
    for found, value in ((p[:, at, 0], mean[at]), (s[:, :1], mean[32:33])):
        assert (found == found[0]).all()
        np.testing.assert_allclose(found[0], value if to == "mean" else 0.0 * value, rtol=1e-6)
    live = [2, 3, 4, 7]
    close = {"rtol": 1e-3 if scripted else 0.0, "atol": 0.0}  # what is frozen sums in another order
    pairs = ((p[:, live, 0], wanted_p[:, live, 0]), (p[..., 1:], wanted_p[..., 1:]), (s[:, 1:], wanted_s[:, 1:]))
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, **close)
    assert wanted_p[:, at, 0].std(0).min() > 0


def test_no_loss_bound_or_closure_touches_them(make_emulator, tiny_store):
    emulator = make_emulator(mask=["specific_humidity_tendency:4"], water="projection")
    assert not channel_weights(emulator, 0.5)[0][:4, 1].any()
    assert not answers(emulator, tiny_store)[0][:, :4, 1].any()


def test_the_word_constant_takes_the_stores_own_statistics(make_emulator, tiny_store):
    """Winds above the lowest level, and the humidity of the top, are 0 in the store."""
    emulator = make_emulator(mask=["constant"])
    p, _ = answers(emulator, tiny_store)
    assert not p[:, :7, 2:].any() and not p[:, 0, 1].any()
    assert p[:, 7, 2:].std(0).min() > 0 and p[:, 1:, 1].std(0).min() > 0


def test_a_trained_mask_is_saved_and_can_be_added_to_but_not_lifted(train_config, tiny_store, tmp_path):
    config = train_config(emulator=EmulatorConfig(mask=[f"{HEATING}:2"]))
    made = fit(config, tmp_path / "run")
    held = load_emulator(tmp_path / "run")
    assert held.config.mask == (f"{HEATING}:2",) and not answers(held, tiny_store)[0][:, :2, 0].any()
    assert torch.equal(answers(held, tiny_store)[0], answers(made, tiny_store)[0])
    more = load_emulator(tmp_path / "run", mask=[f"{HEATING}:2", f"{HEATING}:4"])
    assert not answers(more, tiny_store)[0][:, :4, 0].any()
    assert torch.equal(answers(more, tiny_store)[0][:, 4:], answers(held, tiny_store)[0][:, 4:])
    save_emulator(more, tmp_path / "more")
    assert not answers(load_emulator(tmp_path / "more"), tiny_store)[0][:, :4, 0].any()
    for changes in ({"mask": ()}, {"mask_to": "mean"}):
        with pytest.raises(SubgridError, match=f"emulator.mask=\\[{HEATING}:2\\] to zero"):
            load_emulator(tmp_path / "run", **changes)
    fit(config, tmp_path / "run")  # finished already: the same settings
    with pytest.raises(UsageError, match=r"another .*emulator\.mask"):
        fit(train_config(from_run=tmp_path / "run"), tmp_path / "tuned")
    both = EmulatorConfig(mask=[f"{HEATING}:2", RAIN])
    tuned = fit(train_config(from_run=tmp_path / "run", emulator=both), tmp_path / "tuned")
    assert not answers(tuned, tiny_store)[1][:, 0].any() and not answers(tuned, tiny_store)[0][:, :2, 0].any()


def test_official_normalisation_is_masked_on_top_of_its_pruning(climsim_store, write_normalisation, tmp_path):
    from subgrid.emulator import build_emulator
    from subgrid.training.statistics import fit_transforms

    store, held = climsim_store("v2_rh"), variable_set("v2_rh")
    folder = write_normalisation(tmp_path / "normalizations", held, 6)
    config = EmulatorConfig(
        inputs="raw",
        saturation="sam",
        positive_water=False,
        normalization="official",
        normalization_folder=str(folder),
        prune_inputs=1,
        prune_outputs=2,
        mask=["ptend_t:3"],
    )
    emulator = build_emulator("mlp", held, store.grid.vertical, 1200.0, config, widths=[8])
    fit_transforms(emulator, store["train"])
    std = emulator.outputs.profile_std
    assert not std[:3, 0].any() and std[3:, 0].all()
    assert not std[:2, 1:].any() and std[2:, 1:].all()
