"""Recipes: the loss by hand, the weights of its channels, the schedule, and refusals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from subgrid.base.errors import UsageError
from subgrid.columns.variables import variable_set
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.flat import unflatten
from subgrid.training import TrainConfig, recipe, recipe_names
from subgrid.training.recipes import RecipeConfig
from subgrid.training.recipes.standard import TAIL, channel_weights


@pytest.fixture(scope="module")
def batch(tiny_emulator, tiny_store):
    train, held = tiny_store["train"], tiny_emulator.variables
    return tuple(torch.from_numpy(train.read_variables(v, 2).copy()) for v in (held.inputs, held.targets))


def test_the_standard_recipe_is_listed_and_takes_settings():
    assert "standard" in recipe_names()
    chosen = recipe("standard", epochs=3, loss="huber")
    assert (chosen.config.epochs, chosen.config.loss) == (3, "huber")


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"input_noise": -0.1},
        {"gradient_clip": -1.0},
        {"energy_weight": 1.5},
        {"warmup": 1.0},
        {"loss": "l2"},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        RecipeConfig(**settings)


@pytest.mark.parametrize("energy_weight", [0.0, 0.5, 1.0])
def test_each_variable_weighs_one_on_the_mean_of_its_live_channels(tiny_emulator, energy_weight):
    profiles, scalars = channel_weights(tiny_emulator, energy_weight)
    live = tiny_emulator.outputs.profile_std > 0
    means = (profiles * live).sum(0) / live.sum(0)
    torch.testing.assert_close(means, torch.ones(4))
    assert (profiles[~live] == 0).all() and (~live).sum() == 1 + 7 + 7  # top humidity, winds above the lowest level
    assert (scalars == (tiny_emulator.outputs.scalar_std > 0)).all()


def test_energy_weight_blends_equal_weights_with_variance_times_mass(tiny_emulator, column_grid):
    spread = tiny_emulator.outputs.profile_std.double().numpy()
    energy = spread**2 * np.diff(column_grid.vertical.hybi)[:, None]
    live = spread > 0
    energy = energy / (energy.sum(0) / live.sum(0))
    np.testing.assert_allclose(channel_weights(tiny_emulator, 1.0)[0].numpy(), energy, rtol=1e-5)
    np.testing.assert_array_equal(channel_weights(tiny_emulator, 0.0)[0].numpy(), live)
    np.testing.assert_allclose(channel_weights(tiny_emulator, 0.3)[0].numpy(), 0.7 * live + 0.3 * energy, rtol=1e-5)


ELEMENTWISE = {
    "mse": np.square,
    "mae": np.abs,
    "huber": lambda e: np.where(np.abs(e) < 1.0, 0.5 * e**2, np.abs(e) - 0.5),
}


def by_hand(emulator, batch, energy_weight, elementwise):
    """Loss of each column, (n,) float64: mean over channels with the weights of the recipe."""
    with torch.no_grad():
        out = emulator.network(*emulator.encode(*unflatten(batch[0], 4, 8)))
        target = emulator.normalise_targets(*unflatten(batch[1], 4, 8))
    total, size = 0.0, 0.0
    for prediction, truth, weight in zip(out, target, channel_weights(emulator, energy_weight), strict=True):
        error = (prediction - truth).double().numpy()
        total = total + (elementwise(error) * weight.double().numpy()).reshape(len(error), -1).sum(1)
        size += weight.double().sum().item()
    return total / size


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_the_loss_is_the_weighted_mean_on_normalised_outputs(tiny_emulator, batch, loss):
    chosen = recipe("standard", loss=loss, energy_weight=0.4, input_noise=5.0)
    found = chosen.loss(tiny_emulator, *batch, torch.ones(256), training=False).item()
    wanted = by_hand(tiny_emulator, batch, 0.4, ELEMENTWISE[loss]).mean()
    assert found == pytest.approx(wanted, rel=1e-5)
    other = chosen.loss(tiny_emulator, *batch, torch.linspace(0.1, 9.0, 256), training=False).item()
    assert other == found  # sampling weights are for scores, not for the loss


def test_perturbed_columns_weigh_less_and_their_tails_are_linear(tiny_emulator, batch):
    chosen = recipe("standard", perturbed_weight=0.3, energy_weight=0.0)
    weight = torch.ones(256)
    weight[:100] = 0.0
    far = (batch[0], batch[1] * 3.0)
    found = chosen.loss(tiny_emulator, *far, weight, training=False).item()
    robust = by_hand(
        tiny_emulator, far, 0.0, lambda e: np.where(np.abs(e) < TAIL, e**2, 2 * TAIL * np.abs(e) - TAIL**2)
    )
    plain = by_hand(tiny_emulator, far, 0.0, np.square)
    assert robust[:100].mean() < 0.9 * plain[:100].mean()
    wanted = (0.3 * robust[:100].sum() + plain[100:].sum()) / (0.3 * 100 + 156)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_noise_is_for_training_alone(tiny_emulator, batch):
    chosen = recipe("standard", input_noise=0.5)
    weight = torch.ones(256)
    plain = [chosen.loss(tiny_emulator, *batch, weight, training=False).item() for _ in range(2)]
    torch.manual_seed(0)
    noisy = [chosen.loss(tiny_emulator, *batch, weight, training=True).item() for _ in range(2)]
    assert plain[0] == plain[1]
    assert len({plain[0], *noisy}) == 3


def test_the_schedule_rises_linearly_and_falls_as_a_cosine(make_emulator):
    emulator = make_emulator()
    chosen = recipe("standard", learning_rate=1.0, warmup=0.1, weight_decay=0.3)
    optimizer, schedule = chosen.optimizer(emulator, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[55], 0.5, atol=1e-6)  # half way down
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert 0 < rates[-1] < 2e-3
    matrices, others = optimizer.param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in matrices["params"]} == {2} and {p.ndim for p in others["params"]} == {1}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(emulator.network.parameters()))


@pytest.fixture
def two_heads(make_emulator):
    return make_emulator(confidence=True)


def mean_of(emulator, parts):
    """Weighted mean over rows and channels of elementwise losses, in the recipe's weights."""
    weights = channel_weights(emulator, 0.0)
    total = sum((part.double() * w).sum() for part, w in zip(parts, weights, strict=True))
    return (total / (len(parts[0]) * sum(w.sum() for w in weights))).item()


def test_confidence_learns_the_loss_of_the_first_head_and_only_that(two_heads, batch):
    chosen = recipe("confidence", loss="huber", energy_weight=0.0)
    p, s = two_heads.network(*two_heads.encode(*unflatten(batch[0], 4, 8)))
    truth = two_heads.normalise_targets(*unflatten(batch[1], 4, 8))
    plain = [huber(a, b) for a, b in zip((p[..., :4], s[:, :12]), truth, strict=True)]
    second = [huber(a, b) for a, b in zip((p[..., 4:], s[:, 12:]), plain, strict=True)]
    weight = torch.ones(256)
    found = chosen.loss(two_heads, *batch, weight, training=True)
    assert found.item() == pytest.approx(mean_of(two_heads, plain) + mean_of(two_heads, second), rel=1e-5)
    assert chosen.loss(two_heads, *batch, weight, training=False).item() == pytest.approx(
        mean_of(two_heads, plain), rel=1e-5
    )
    # the second head's error does not move the first: with respect to it the gradient is the plain loss's
    first = torch.autograd.grad(found, list(two_heads.network.parameters()), allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in first)
    expected = two_heads.confidence(*unflatten(batch[0], 4, 8))
    torch.testing.assert_close(expected[0], p[..., 4:])
    torch.testing.assert_close(expected[1], s[:, 12:])


def huber(found, truth):
    error = (found - truth).abs()
    return torch.where(error < 1.0, 0.5 * error.square(), error - 0.5)


def test_the_second_head_leaves_the_prediction_as_it_is(two_heads, batch):
    p, s = two_heads.encode(*unflatten(batch[0], 4, 8))
    every, first = two_heads.network(p, s), two_heads.predict(p, s)
    torch.testing.assert_close(first[0], every[0][..., :4])
    torch.testing.assert_close(first[1], every[1][:, :12])


def test_difference_adds_the_loss_of_neighbouring_levels(tiny_emulator, batch):
    chosen = recipe("difference", loss="huber", energy_weight=0.0)
    weight = torch.ones(256)
    plain = chosen.loss(tiny_emulator, *batch, weight, training=False).item()
    assert plain == recipe("standard", loss="huber", energy_weight=0.0).loss(
        tiny_emulator, *batch, weight, training=False
    )
    p, _ = tiny_emulator.network(*tiny_emulator.encode(*unflatten(batch[0], 4, 8)))
    truth, _ = tiny_emulator.normalise_targets(*unflatten(batch[1], 4, 8))
    live = channel_weights(tiny_emulator, 0.0)[0]
    both = (live[1:] > 0) & (live[:-1] > 0)
    each = huber(p[:, 1:] - p[:, :-1], truth[:, 1:] - truth[:, :-1])
    wanted = plain + each[:, both].double().mean().item()
    assert chosen.loss(tiny_emulator, *batch, weight, training=True).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "expanded"), [("speedy", "speedy_expanded"), ("v2_rh_mc", "v6"), ("speedy_expanded", "speedy_expanded")]
)
def test_expanded_takes_the_larger_set(given, expanded):
    config = TrainConfig(data="store.zarr", variables=given, recipe="expanded")
    assert config.variables == expanded
    assert config.emulator == EmulatorConfig(**variable_set(expanded).emulator)


def test_expanded_refuses_a_set_without_one_by_name():
    with pytest.raises(UsageError, match="'speedy_keep_diffusion'"):
        TrainConfig(data="store.zarr", variables="speedy_keep_diffusion", recipe="expanded")


def test_a_recipe_sets_what_it_needs_of_the_emulator_and_refuses_the_contrary():
    assert TrainConfig(data="s", recipe="confidence").emulator.confidence
    assert TrainConfig(data="s", recipe="multirepresentation").emulator.representation == "multi"
    for recipe_name, settings, needed in (
        ("confidence", {}, "emulator.confidence=true"),
        ("standard", {"confidence": True}, "emulator.confidence=false"),
        ("multirepresentation", {}, "emulator.representation=multi"),
    ):
        with pytest.raises(UsageError, match=needed):
            TrainConfig(data="s", recipe=recipe_name, emulator=EmulatorConfig(**settings))
