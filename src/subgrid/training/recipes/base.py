"""The registry of recipes and the settings that every recipe has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, ClassVar, Protocol

import torch
import yaml
from torch import Tensor

from subgrid.base.errors import UsageError, unknown_name
from subgrid.base.plugins import import_offer, offered
from subgrid.columns.variables import VariableSet
from subgrid.emulator.emulator import Emulator
from subgrid.networks import Network

ENTRY_POINT_GROUP = "subgrid.recipes"
LOSSES = ("mse", "huber", "mae")


@dataclass(frozen=True)
class RecipeConfig:
    """Optimisation settings.

    Args:
        epochs: passes over the training columns.
        batch_size: columns per step.
        learning_rate: its peak.
        warmup: share of all steps in which the learning rate rises linearly; it then falls as a cosine to zero.
        weight_decay: of AdamW, on matrices only.
        loss: ``mse``, ``huber`` (delta 1) or ``mae``, on normalised outputs.
        energy_weight: 0 weighs every normalised channel alike; 1 weighs the levels of a profile by variance x layer
            mass, as the pooled R2 does; between is linear.
        input_noise: standard deviation of Gaussian noise on normalised inputs.
        perturbed_weight: weight of perturbed columns (those of weight zero in the store) beside 1 for the others.
        gradient_clip: norm at which gradients are clipped (0: never).
        ema_decay: of the exponential average of the weights over the steps, which is then validated and kept in
            place of the last weights (0: none; 0.999 averages over about a thousand steps).
    """

    epochs: int = 14
    batch_size: int = 4096
    learning_rate: float = 2e-3
    warmup: float = 0.1
    weight_decay: float = 1e-4
    loss: str = "mse"
    energy_weight: float = 0.5
    input_noise: float = 0.0
    perturbed_weight: float = 0.3
    gradient_clip: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise unknown_name("recipe.loss", self.loss, LOSSES)
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError(f"recipe.epochs={self.epochs} and recipe.batch_size={self.batch_size} must be positive")
        if not 0.0 <= self.energy_weight <= 1.0 or not 0.0 <= self.warmup < 1.0:
            raise UsageError(
                f"recipe.energy_weight={self.energy_weight} must lie in [0, 1], recipe.warmup={self.warmup} in [0, 1)"
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise UsageError(f"recipe.ema_decay={self.ema_decay} must lie in [0, 1)")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"recipe.learning_rate={self.learning_rate} must be positive and finite")
        for name in ("perturbed_weight", "weight_decay", "input_noise", "gradient_clip"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"recipe.{name}={getattr(self, name)} must be finite and not negative")


class Recipe(Protocol):
    """What a training step does with an emulator and a batch."""

    config: RecipeConfig
    #: Settings of the emulator that the recipe needs, and the run therefore has.
    emulator: ClassVar[dict[str, Any]]

    def variables(self, found: VariableSet) -> VariableSet:
        """The variable set that a run with ``found`` reads and predicts.

        Raises:
            UsageError: the recipe needs one that ``found`` does not name.
        """
        ...

    def require(self, network: Network) -> None:
        """Raise :class:`UsageError` unless the recipe can train ``network``."""
        ...

    def loss(self, emulator: Emulator, inputs: Tensor, targets: Tensor, weight: Tensor, training: bool) -> Tensor:
        """Scalar loss of raw flat columns (n, channel); plain (no noise) unless ``training``.

        ``weight`` (n,) is the store's: zero marks a perturbed column.
        """
        ...

    def optimizer(self, emulator: Emulator, total_steps: int) -> tuple[torch.optim.Optimizer, Any]:
        """Optimiser and per-step schedule."""
        ...


_RECIPES: dict[str, Callable[[RecipeConfig], Recipe]] = {}


def register(name: str) -> Callable[[Callable[[RecipeConfig], Recipe]], Callable[[RecipeConfig], Recipe]]:
    """Class decorator: make a recipe known as ``name``; its defaults lie in ``<name>.yaml`` beside its module."""

    def add(builder: Callable[[RecipeConfig], Recipe]) -> Callable[[RecipeConfig], Recipe]:
        _RECIPES[name] = builder
        return builder

    return add


def recipe_names() -> list[str]:
    """All recipes: those here and those that installed packages offer."""
    return sorted({*_RECIPES, *offered(ENTRY_POINT_GROUP)})


def recipe(name: str, **overrides: Any) -> Recipe:
    """A recipe with its YAML's defaults and ``overrides``.

    Raises:
        UsageError: unknown recipe, setting or value.
    """
    if name not in _RECIPES:
        point = offered(ENTRY_POINT_GROUP).get(name)
        if point is None:
            raise unknown_name("recipe", name, recipe_names())
        import_offer("recipe", point, lambda: name in _RECIPES)
    builder = _RECIPES[name]
    defaults = yaml.safe_load((resources.files(builder.__module__.rpartition(".")[0]) / f"{name}.yaml").read_text())
    known = {f.name for f in fields(RecipeConfig)}
    for key in {**defaults, **overrides}:
        if key not in known:
            raise unknown_name(f"setting of recipe '{name}'", key, known)
    return builder(RecipeConfig(**{**defaults, **overrides}))
