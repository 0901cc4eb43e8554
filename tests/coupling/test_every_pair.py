"""Every architecture under every recipe inside SPEEDY, at T21 and at T31, through the bridge that is chosen for it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from subgrid.hosts.driving import Drive
from subgrid.hosts.speedy.host import Speedy
from subgrid.training import TrainConfig
from subgrid.training.fit import prepare
from subgrid.workflows.matrix import ARCHITECTURES, RECIPES

TRUNCATIONS = (21, 31)
#: Every pair of architecture and recipe, each of both also at each resolution.
CELLS = [(a, r, TRUNCATIONS[(i + j) % 2]) for (i, a), (j, r) in product(enumerate(ARCHITECTURES), enumerate(RECIPES))]


@pytest.fixture(scope="module")
def hosts():
    return {truncation: Speedy(truncation=truncation, time_step_minutes=40) for truncation in TRUNCATIONS}


@pytest.mark.matrix
@pytest.mark.parametrize(("architecture", "recipe", "truncation"), CELLS)
def test_a_cell_couples(architecture, recipe, truncation, hosts, tiny_store):
    host = hosts[truncation]
    settings = {"batch_size": 64}
    config = TrainConfig(str(tiny_store.path), architecture=architecture, recipe=recipe, recipe_settings=settings)
    emulator, _ = prepare(config, tiny_store)
    emulator.eval()
    start = host.model.initial()
    physics, bridge = host.emulator_physics(emulator, host.flat_columns(start, emulator), Drive())
    after = host.model.program(physics)(start, 3, True)
    own = host.model.program()(start, 3, True)
    assert bridge in ("jax", "callback") and bool(after.stable)
    differs = np.abs(np.asarray(after.sums["temperature"]) - np.asarray(own.sums["temperature"])).max()
    assert 0 < differs < 30.0
