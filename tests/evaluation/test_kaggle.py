"""The set of metrics ``kaggle``: all 368 outputs against plain numpy, also where cloud water is rebuilt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns import StoreWriter
from subgrid.columns.kaggle.layout import TARGETS, zero_weight
from subgrid.columns.layout import StoreSpec
from subgrid.columns.variables import catalogue, channel_labels, offsets, variable_set
from subgrid.emulator import EmulatorConfig, build_emulator
from subgrid.emulator.flat import FlatEmulator
from subgrid.evaluation.kaggle import kaggle_metrics, require_targets
from subgrid.physics.vertical import VerticalGrid
from subgrid.training.statistics import fit_transforms

LEVELS = 14
HELD = ("state_q0002", "state_q0003", "ptend_q0002", "ptend_q0003")


@pytest.fixture(scope="module")
def store(tmp_path_factory, column_grid):
    """Random columns of ``v2_rh_mc`` with what rebuilding needs beside them."""
    from subgrid.columns import ColumnGrid

    variables, known = variable_set("kaggle_rh_mc"), catalogue("climsim").variables
    vertical = VerticalGrid.sigma(np.linspace(0.0, 1.0, LEVELS + 1).tolist())
    grid = ColumnGrid(column_grid.latitude, column_grid.longitude, column_grid.area, vertical)
    arrays = {"inputs": variables.inputs, "targets": variables.targets, "scoring": tuple(known[n] for n in HELD)}
    spec = StoreSpec(grid, arrays, 1200.0, "climsim", {"made": "by the tests"}, block=64)
    writer, rng = StoreWriter(tmp_path_factory.mktemp("k") / "k.zarr", spec), np.random.default_rng(0)
    for split, count in (("train", 150), ("test", 150)):
        rows = {}
        for name, group in arrays.items():
            parts = []
            for v in group:
                middle, size = (265.0, 15.0) if v.name == "state_t" else (2e-5, 1e-5)
                parts.append(middle + size * rng.standard_normal((count, v.width(LEVELS))))
            rows[name] = np.concatenate(parts, axis=1)
        marks = {"time": np.arange(count), "column": np.arange(count) % 16, "weight": np.ones(count)}
        writer.append(split, {**rows, **marks})
    return writer.finish()


@pytest.fixture(scope="module")
def emulator(store):
    torch.manual_seed(0)
    variables = store.variable_set("kaggle_rh_mc")
    config = EmulatorConfig(**variables.emulator)
    made = build_emulator("mlp", variables, store.grid.vertical, 1200.0, config, widths=[16])
    fit_transforms(made, store["train"])
    return made.eval()


def test_rebuilt_outputs_are_scored_against_the_stored_ones(tmp_path, store, emulator):
    found = kaggle_metrics(emulator, store, store["test"], tmp_path)
    split, variables = store["test"], emulator.variables
    blocks = range(split.blocks)
    x, y, held = (np.concatenate([split.read(a, b) for b in blocks]) for a in ("inputs", "targets", "scoring"))
    with torch.inference_mode():
        raw = FlatEmulator(emulator)(torch.from_numpy(x))[0].double().numpy()
    given = dict(zip(channel_labels(variables.targets, LEVELS), raw.T, strict=True))
    inputs = dict(zip(channel_labels(variables.inputs, LEVELS), x.T.astype(float), strict=True))
    truth = dict(zip(channel_labels(variables.targets, LEVELS), y.T.astype(float), strict=True))
    known = catalogue("climsim").variables
    stored = dict(zip(channel_labels([known[n] for n in HELD], LEVELS), held.T.astype(float), strict=True))
    for k in range(LEVELS):
        liquid = np.clip((inputs[f"state_t_{k}"] + 1200.0 * given[f"ptend_t_{k}"] - 253.16) / 20.0, 0.0, 1.0)
        cloud = stored[f"state_q0002_{k}"] + stored[f"state_q0003_{k}"] + 1200.0 * given[f"ptend_qn_{k}"]
        given[f"ptend_q0002_{k}"] = (liquid * cloud - stored[f"state_q0002_{k}"]) / 1200.0
        given[f"ptend_q0003_{k}"] = ((1.0 - liquid) * cloud - stored[f"state_q0003_{k}"]) / 1200.0
    truth |= stored
    labels = channel_labels(TARGETS.values(), LEVELS)
    r2 = np.array(
        [1.0 - ((truth[c] - given[c]) ** 2).sum() / ((truth[c] - truth[c].mean()) ** 2).sum() for c in labels]
    )
    live = ~zero_weight(LEVELS)
    assert found["r2_308"] == pytest.approx(r2[live].mean(), rel=1e-9)
    assert found["r2_368"] == pytest.approx(np.where(live, r2, 1.0).mean(), rel=1e-9)
    for name, part in offsets(TARGETS.values(), LEVELS).items():
        assert np.allclose(found["r2"][name], r2[part], rtol=1e-9)


def test_an_emulator_without_all_outputs_is_refused(store):
    few = variable_set("v1")
    emulator = build_emulator("mlp", few, store.grid.vertical, 1200.0, EmulatorConfig(**few.emulator), widths=[4])
    with pytest.raises(UsageError, match="does not predict ptend_q0002, ptend_q0003, ptend_u, ptend_v"):
        require_targets(emulator)
