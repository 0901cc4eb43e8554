"""Networks trained together are those trained alone, and so are their answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.coupling.population import run_population
from subgrid.emulator.flat import FlatEmulator
from subgrid.hosts.base import host
from subgrid.hosts.sampling import GenerateConfig
from subgrid.training.population import PopulationConfig, fit_population, r2_of

SAMPLING = GenerateConfig(
    spin_up_days=5, train_days=10, evaluation_days=6, gap_days=0, fraction=0.6, evaluation_fraction=0.6
)
SETTINGS = {"members": 3, "epochs": 4, "batch_size": 64, "network": {"widths": [16]}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = host("lorenz96", columns=16, slow=8, fast=8)
    return made.generate(tmp_path_factory.mktemp("rings") / "store.zarr", SAMPLING)


@pytest.fixture(scope="module")
def population(store):
    return fit_population(store, PopulationConfig(**SETTINGS))


def test_a_member_is_what_it_would_be_alone(store, population):
    alone = fit_population(store, PopulationConfig(**{**SETTINGS, "members": 1, "seed": 2}))
    for (name, mine), (_, other) in zip(
        population.members[2].named_parameters(), alone.members[0].named_parameters(), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5, msg=name)


def test_members_answer_on_columns_of_their_own(store, population):
    assert population.together and len(population) == 3
    x = torch.from_numpy(store["test"].read_variables(population.members[0].variables.inputs, 0)[:30].copy())
    x = x.reshape(3, 10, -1)
    found = population(x)
    for member, rows, y in zip(population.members, x, found, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(FlatEmulator(member)(rows)[0], y, rtol=1e-5, atol=1e-9)


def test_training_helps(store, population):
    r2 = r2_of(fit_population(store, PopulationConfig(**{**SETTINGS, "epochs": 60})), store["test"])
    assert r2.shape == (3,) and (r2 > r2_of(population, store["test"])).all() and (r2 > 0.1).all()


def test_recurrent_networks_answer_one_after_the_other(store):
    small = {**SETTINGS, "members": 2, "epochs": 1, "architecture": "cnn", "network": {}}
    found = fit_population(store, PopulationConfig(**small))
    x = torch.from_numpy(store["test"].read_variables(found.members[0].variables.inputs, 0)[:16].copy()).reshape(
        2, 8, -1
    )
    assert found(x).shape[:2] == (2, 8)


@pytest.mark.parametrize("settings", [{"members": 0}, {"learning_rate": 0.0}, {"input_noise": -1.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(UsageError, match="population"):
        PopulationConfig(**settings)


def test_each_member_lives_and_dies_alone(store, population):
    driven = host("lorenz96", columns=16, slow=8, fast=8)
    restart = sorted((store.path / "restarts").iterdir())[0]
    healthy = run_population(driven, population, restart, 2)
    assert not healthy["ended"].any() and (healthy["lasted"] == 2).all()
    assert (healthy["rmse"][:, 0] > 0).all()
    broken = fit_population(store, PopulationConfig(**SETTINGS))
    with torch.no_grad():
        broken.members[1].outputs.profile_mean += 1.0  # per second
    again = type(broken)(broken.members)
    found = run_population(driven, again, restart, 2)
    np.testing.assert_array_equal(found["ended"], [False, True, False])
    assert int(found["lasted"][1]) == 0 and np.isnan(found["rmse"][1]).all()
    for k in (0, 2):
        np.testing.assert_allclose(found["rmse"][k], healthy["rmse"][k], rtol=1e-3)


def test_a_population_runs_as_its_members_would(store, population, tmp_path):
    driven = host("lorenz96", columns=16, slow=8, fast=8)
    restart = sorted((store.path / "restarts").iterdir())[0]
    found = run_population(driven, population, restart, 1)
    from subgrid.hosts.climate import open_climate

    control = driven.run(None, restart, 1, tmp_path / "control")
    alone = driven.run(population.members[1], restart, 1, tmp_path / "alone")
    assert control.days == alone.days == 1
    one, other = (open_climate(tmp_path / name / "daily")["x"].values[0] for name in ("alone", "control"))
    assert float(found["bias"][1, 0]) == pytest.approx((one - other).mean(), abs=2e-3)
