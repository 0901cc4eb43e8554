"""Training through the differentiable host: its step is the host's own, its gradient exact, and fine-tuning learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.base.files import read_json
from subgrid.columns import variable_set
from subgrid.columns.variables import offsets
from subgrid.emulator.files import load_emulator
from subgrid.hosts.sampling import GenerateConfig
from subgrid.hosts.speedy.host import Speedy
from subgrid.hosts.speedy.rollout import DifferentiableDynamics
from subgrid.training import TrainConfig, fit
from subgrid.training.rollout import RolloutConfig, _Step, finetune

SAMPLING = GenerateConfig(
    spin_up_days=2, train_days=2, evaluation_days=4, gap_days=0, fraction=0.5, evaluation_fraction=0.3
)


@pytest.fixture(scope="module")
def speedy():
    return Speedy()


@pytest.fixture(scope="module")
def dynamics(speedy):
    return DifferentiableDynamics(speedy.model, variable_set("speedy"))


@pytest.fixture(scope="module")
def carry(speedy):
    return speedy.model.program()(speedy.model.initial(), 100, True)


def test_the_step_under_the_hosts_own_physics_is_the_hosts_own(dynamics, carry):
    first, second = dynamics.trajectory(carry, 2)
    _, columns = dynamics.advance(dynamics.state(carry), dynamics.targets(first), *dynamics.clock(carry, 0))
    truth = dynamics.columns(second)
    for name, part in offsets(variable_set("speedy").inputs, 8).items():
        size = np.abs(truth[:, part]).max()
        np.testing.assert_allclose(columns[:, part], truth[:, part], rtol=0, atol=2e-6 * size, err_msg=name)


def test_the_gradient_is_that_of_finite_differences(dynamics, carry):
    (first,) = dynamics.trajectory(carry, 1)
    state = torch.from_numpy(np.array(dynamics.state(carry)))
    physics = torch.from_numpy(dynamics.targets(first)).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    heating = torch.zeros_like(physics).detach()
    heating[:, :8] = torch.randn(heating[:, :8].shape, generator=generator)
    weight = torch.randn(2048, 8, generator=generator)

    def warmth(given):
        _, columns = _Step.apply(state, given, dynamics, dynamics.clock(carry, 0))
        return (columns[:, :8].double() * weight).sum()

    warmth(physics).backward()
    size = 1e-3  # K/s: 1.8 K in a step, far above rounding; the dynamics is linear in it
    with torch.no_grad():
        difference = (warmth(physics + size * heating) - warmth(physics - size * heating)) / (2 * size)
    assert float((physics.grad * heating).sum()) == pytest.approx(float(difference), rel=5e-3)


def test_fine_tuning_changes_the_weights_and_is_finished_once(speedy, tmp_path):
    store = speedy.generate(tmp_path / "store.zarr", SAMPLING)
    settings = {"epochs": 1, "batch_size": 256}
    config = TrainConfig(data=str(store.path), network={"widths": [16]}, recipe_settings=settings)
    before = fit(config, tmp_path / "run")
    tuned = RolloutConfig(str(tmp_path / "run"), str(store.path), steps=2, iterations=3, state_stride=31)
    after = finetune(tuned, tmp_path / "tuned")
    losses = read_json(tmp_path / "tuned" / "metrics.json")["losses"]
    assert len(losses) == 3 and all(np.isfinite(one["rollout_loss"]) and one["rollout_loss"] > 0 for one in losses)
    weights = [dict(e.network.named_parameters()) for e in (before, after, load_emulator(tmp_path / "tuned"))]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    assert finetune(tuned, tmp_path / "tuned").metadata["finetuned"] == "3 rollouts of 2 steps"


@pytest.mark.parametrize("name", ["steps", "iterations", "state_stride"])
def test_an_empty_stretch_is_refused(name):
    with pytest.raises(UsageError, match=f"rollout.{name}=0 must be at least 1"):
        RolloutConfig("run", "store.zarr", **{name: 0})
