"""Batches of two stores: their order, their places after a cut, what the second adds to the loss, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns.loader import ColumnLoader
from subgrid.columns.variables import variable_set
from subgrid.emulator import load_emulator
from subgrid.emulator.flat import unflatten
from subgrid.training import TrainConfig, fit, recipe
from subgrid.training.batches import TorchBatches
from subgrid.training.callbacks import Reporter
from subgrid.training.recipes.standard import channel_weights

SET = variable_set("speedy")


class Killed(BaseException):
    """A kill, as near as one process can see it."""


@pytest.fixture(scope="module")
def second_store(tmp_path_factory, write_store, make_rows):
    """Fewer columns than the first store, and other ones."""
    rows = {"train": make_rows(700, seed=21), "validation": make_rows(100, seed=22)}
    return write_store(tmp_path_factory.mktemp("second") / "second.zarr", rows)


def batches(first, second, seed=1):
    return TorchBatches(*(ColumnLoader(s["train"], SET, 256, seed=seed, buffer_blocks=2) for s in (first, second)))


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_each_batch_has_one_of_either_and_the_second_begins_anew_at_its_end(tiny_store, second_store):
    both = batches(tiny_store, second_store)
    assert len(both) == 11 and both.columns == 2 * 11 * 256
    given = [pair for _ in range(2) for pair in both]
    alone = ColumnLoader(tiny_store["train"], SET, 256, seed=1, buffer_blocks=2)
    other = ColumnLoader(second_store["train"], SET, 256, seed=1, buffer_blocks=2)
    first = [torch.from_numpy(x) for _ in range(2) for x, _, _ in alone]
    second = [torch.from_numpy(x) for _ in range(11) for x, _, _ in other]  # two batches an epoch
    assert len(given) == 22
    assert same([own[0] for own, _ in given], first)
    assert same([beside[0] for _, beside in given], second)


@pytest.mark.parametrize("stop", [5, 11, 16])
def test_they_go_on_from_where_they_stood(tiny_store, second_store, stop):
    whole = [pair for both in [batches(tiny_store, second_store)] for _ in range(2) for pair in both]
    begun, given = batches(tiny_store, second_store), []
    while len(given) < stop:
        for pair in begun:
            given.append(pair)
            if len(given) == stop:
                state = begun.state_dict()
                break
    again = batches(tiny_store, second_store)
    again.load_state_dict(state)
    rest = list(again)
    for ours, theirs in zip(rest, whole[stop:], strict=False):
        assert same(ours[0], theirs[0]) and same(ours[1], theirs[1])
    assert len(rest) == 11 - stop % 11


def rows_of(store, emulator, block=1):
    split, held = store["train"], emulator.variables
    x, y = (torch.from_numpy(split.read_variables(v, block).copy()) for v in (held.inputs, held.targets))
    return x, y, torch.ones(len(x))


def test_what_the_second_adds_by_hand(tiny_emulator, tiny_store):
    chosen = recipe("fifth_place_b", energy_weight=0.0)
    rows = rows_of(tiny_store, tiny_emulator)
    with torch.no_grad():
        found = tiny_emulator.network(*tiny_emulator.encode(*unflatten(rows[0], 4, 8)))
        truth = tiny_emulator.normalise_targets(*unflatten(rows[1], 4, 8))
    live = channel_weights(tiny_emulator, 0.0)
    error = torch.cat([(a - b)[:, w > 0].double() for a, b, w in zip(found, truth, live, strict=True)], dim=1)
    mae, mse = error.abs().mean().item(), error.square().mean().item()
    assert chosen.loss(tiny_emulator, *rows, training=True).item() == pytest.approx(mae + 0.08 * mse, rel=1e-5)
    assert chosen.loss(tiny_emulator, *rows, training=False).item() == pytest.approx(mae, rel=1e-5)
    assert chosen.second_loss(tiny_emulator, *rows).item() == pytest.approx(0.3 * mae + 0.0005 * mse, rel=1e-5)


def test_the_second_store_moves_the_weights_and_the_first_is_validated(tmp_path, train_config, second_store):
    one = {"recipe_settings": {"epochs": 1, "batch_size": 256}, "network": {"widths": [16]}}
    plain = fit(train_config(**one), tmp_path / "plain")
    both = fit(train_config(**one, data2=second_store.path), tmp_path / "both")
    weight = "network.output.weight"
    assert not torch.equal(plain.state_dict()[weight], both.state_dict()[weight])
    for name in ("mean", "std"):
        ours, theirs = (e.inputs.get_buffer(f"profile_{name}") for e in (both, plain))
        assert torch.equal(ours, theirs)  # of the first store alone
    assert (both.outputs.profile_high >= plain.outputs.profile_high).all()
    assert both.metadata["second_store"] == str(second_store.path)
    assert json.loads((tmp_path / "both" / "provenance.json").read_text())["second_store"] == {"made": "by the tests"}
    metrics = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert (metrics["steps"], metrics["columns_per_epoch"]) == (11, 2 * 11 * 256)


def test_a_cut_run_of_two_stores_goes_on_to_the_same_bits(tmp_path, train_config, second_store, monkeypatch):
    settings = {"epochs": 2, "batch_size": 256, "input_noise": 0.1}
    config = train_config(recipe_settings=settings, data2=str(second_store.path), checkpoint_every=3)
    whole = fit(config, tmp_path / "whole")
    real = Reporter.on_train_batch_end

    def dies(self, trainer, *args):
        real(self, trainer, *args)
        if trainer.global_step == 17:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "on_train_batch_end", dies)
        with pytest.raises(Killed):
            fit(config, tmp_path / "cut")
    fit(config, tmp_path / "cut")
    again = load_emulator(tmp_path / "cut").state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.state_dict().items())


def test_a_second_store_of_another_kind_is_refused(tmp_path, train_config, write_store, make_rows):
    from subgrid.columns import ColumnGrid
    from subgrid.physics.vertical import VerticalGrid

    rows = {"train": make_rows(300, seed=1), "validation": make_rows(50, seed=2)}
    vertical = VerticalGrid.sigma(np.linspace(0.0, 1.0, 9).tolist())
    grid = ColumnGrid(np.zeros(16), np.zeros(16), np.full(16, np.pi / 4), vertical)
    few = write_store(tmp_path / "few.zarr", {"train": make_rows(50)})
    for message, store in (
        ("has another time step than", write_store(tmp_path / "step.zarr", rows, time_step=600.0)),
        ("has another vertical grid than", write_store(tmp_path / "grid.zarr", rows, grid=grid)),
        ("fewer than one batch of 256", few),
    ):
        with pytest.raises(UsageError, match=message):
            fit(train_config(data2=str(store.path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_with_a_loss_of_its_own_takes_no_squared_error_beside_it():
    from subgrid.networks import NetworkShape, build

    network = build("rpn", NetworkShape(8, 4, 13, 4, 12))
    with pytest.raises(UsageError, match="mse_weight"):
        recipe("standard", mse_weight=0.1).require(network)


def test_a_path_object_is_as_good_as_its_text(second_store):
    assert TrainConfig(data=second_store.path, data2=second_store.path).data2 == str(second_store.path)
