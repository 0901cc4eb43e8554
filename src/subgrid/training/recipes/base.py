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
SCHEDULES = ("cosine", "multistep", "constant")
KEPT = ("best", "last")


@dataclass(frozen=True)
class RecipeConfig:
    """Optimisation settings.

    Args:
        epochs: passes over the training columns.
        batch_size: columns per step.
        learning_rate: its peak.
        warmup: share of all steps in which the learning rate rises linearly.
        schedule: how it goes on: ``cosine`` (to zero), ``multistep`` (times ``gamma`` after so many epochs as each of
            ``milestones`` says) or ``constant``.
        milestones: epochs, rising.
        gamma: factor at each of them.
        accumulate: batches whose gradients make one step.
        weight_decay: of AdamW, on matrices only.
        loss: ``mse``, ``huber`` (delta 1) or ``mae``, on normalised outputs.
        polish_epochs: so many of the last epochs are trained with the squared error in place of ``loss``, by which the
            whole run is then validated (0: none).
        polish_learning_rate: the rate from their beginning on (0: as the schedule says).
        outputs: names of the output variables that alone count in the loss (none: all).
        mse_weight: of the squared error, added to the loss in training.
        second_weight: of the loss of the second store's columns (``data2``) beside that of the first's.
        second_mse_weight: of the squared error there.
        energy_penalty: weight a of the column's energy in training: the loss becomes (1 - a) loss + a r^2, r being the
            error of the energy residual beside the truth's, in the spread that independent errors of one spread of
            each output would give it.
        water_penalty: the same of the column's water; both together are below 1.
        energy_weight: 0 weighs every normalised channel alike; 1 weighs the levels of a profile by variance x layer
            mass, as the pooled R2 does; between is linear.
        input_noise: standard deviation of Gaussian noise on normalised inputs.
        perturbed_weight: weight of perturbed columns (those of weight zero in the store) beside 1 for the others.
        gradient_clip: norm at which gradients are clipped (0: never).
        ema_decay: of the exponential average of the weights over the steps, which is then validated and kept in
            place of the last weights (0: none; 0.999 averages over about a thousand steps).
        ema_every: steps between those that enter the exponential average.
        ema_after: steps that it leaves out: until then it is the weights themselves.
        swa_from: epoch, counted from 1, from whose end on the weights at the end of each epoch are averaged, all alike;
            the average is validated and shipped (0: none).
        swa_learning_rate: the rate from the beginning of that epoch on (0: as the schedule says).
        keep: the epoch whose weights the emulator ships: ``best`` by validation loss, or ``last``.
        average_checkpoints: ship the mean of the weights of so many best epochs (0: of one).
    """

    epochs: int = 14
    batch_size: int = 4096
    learning_rate: float = 2e-3
    warmup: float = 0.1
    weight_decay: float = 1e-4
    loss: str = "mse"
    mse_weight: float = 0.0
    second_weight: float = 1.0
    second_mse_weight: float = 0.0
    energy_weight: float = 0.5
    energy_penalty: float = 0.0
    water_penalty: float = 0.0
    input_noise: float = 0.0
    perturbed_weight: float = 0.3
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    accumulate: int = 1
    ema_every: int = 1
    ema_after: int = 0
    swa_from: int = 0
    swa_learning_rate: float = 0.0
    keep: str = "best"
    average_checkpoints: int = 0
    polish_epochs: int = 0
    polish_learning_rate: float = 0.0
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, valid in (("loss", LOSSES), ("schedule", SCHEDULES), ("keep", KEPT)):
            if getattr(self, name) not in valid:
                raise unknown_name(f"recipe.{name}", str(getattr(self, name)), valid)
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError(f"recipe.epochs={self.epochs} and recipe.batch_size={self.batch_size} must be positive")
        if not 0.0 <= self.energy_weight <= 1.0 or not 0.0 <= self.warmup < 1.0:
            raise UsageError(
                f"recipe.energy_weight={self.energy_weight} must lie in [0, 1], recipe.warmup={self.warmup} in [0, 1)"
            )
        penalties = (self.energy_penalty, self.water_penalty)
        if min(penalties) < 0.0 or not sum(penalties) < 1.0:
            raise UsageError(
                f"recipe.energy_penalty={self.energy_penalty} and recipe.water_penalty={self.water_penalty} must not "
                "be negative, and together be below 1"
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise UsageError(f"recipe.ema_decay={self.ema_decay} must lie in [0, 1)")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"recipe.learning_rate={self.learning_rate} must be positive and finite")
        if not 0 < self.second_weight < float("inf"):
            raise UsageError(f"recipe.second_weight={self.second_weight} must be positive and finite")
        for name in (
            "perturbed_weight",
            "weight_decay",
            "input_noise",
            "gradient_clip",
            "swa_learning_rate",
            "mse_weight",
            "second_mse_weight",
            "polish_learning_rate",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"recipe.{name}={getattr(self, name)} must be finite and not negative")
        if not isinstance(self.outputs, (list, tuple)) or not all(isinstance(name, str) for name in self.outputs):
            raise UsageError(f"recipe.outputs={self.outputs} must be a list of output variables, such as [ptend_t]")
        object.__setattr__(self, "outputs", tuple(self.outputs))  # a list from JSON or the command line
        self._check_schedule()
        self._check_averages()
        self._check_polish()

    def _check_schedule(self) -> None:
        whole = isinstance(self.milestones, (list, tuple)) and all(type(m) is int and m > 0 for m in self.milestones)
        if not whole or list(self.milestones) != sorted(set(self.milestones)):
            raise UsageError(f"recipe.milestones={self.milestones} must be rising epochs above 0, such as [3,6,9]")
        object.__setattr__(self, "milestones", tuple(self.milestones))  # a list from JSON or the command line
        if bool(self.milestones) != (self.schedule == "multistep"):
            raise UsageError(
                f"recipe.milestones={list(self.milestones)} with recipe.schedule={self.schedule}: milestones belong to "
                "multistep, and multistep needs them"
            )
        if not 0.0 < self.gamma <= 1.0:
            raise UsageError(f"recipe.gamma={self.gamma} must lie in (0, 1]")

    def _check_polish(self) -> None:
        if not self.polish_epochs:
            if self.polish_learning_rate:
                raise UsageError("recipe.polish_learning_rate is that of recipe.polish_epochs, of which there are none")
            return
        if not 0 < self.polish_epochs < self.epochs:
            raise UsageError(
                f"recipe.polish_epochs={self.polish_epochs} must lie between 0 and the {self.epochs} epochs, of which "
                "they are the last"
            )
        if self.loss == "mse":
            raise UsageError(
                "recipe.polish_epochs polishes with the squared error what another loss has trained: with "
                "recipe.loss=mse there is nothing to polish; choose huber or mae"
            )
        if self.polish_learning_rate and self.swa_learning_rate:
            raise UsageError(
                "recipe.polish_learning_rate and recipe.swa_learning_rate each set the rate of the last epochs: choose "
                "one"
            )

    def _check_averages(self) -> None:
        for name, least in (("accumulate", 1), ("ema_every", 1), ("ema_after", 0), ("swa_from", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"recipe.{name}={getattr(self, name)} must be at least {least}")
        if self.swa_from > self.epochs:
            raise UsageError(f"recipe.swa_from={self.swa_from} comes after the last of {self.epochs} epochs")
        if self.average_checkpoints and not 2 <= self.average_checkpoints <= self.epochs:
            raise UsageError(
                f"recipe.average_checkpoints={self.average_checkpoints} must be 0 (none) or at least 2 of the "
                f"{self.epochs} epochs"
            )
        chosen = {
            "ema_decay": self.ema_decay > 0 and self.swa_from > 0,
            "keep=last": self.keep == "last" and self.average_checkpoints > 0,
            "average_checkpoints": self.average_checkpoints > 0 and self.swa_from > 0,
        }
        for name, clash in chosen.items():
            if clash:
                other = "average_checkpoints" if name == "keep=last" else "swa_from"
                raise UsageError(f"recipe.{name} and recipe.{other} each say which weights to ship: choose one")


class Recipe(Protocol):
    """What a training step does with an emulator and a batch."""

    config: RecipeConfig
    #: Settings of the emulator that the recipe needs, and the run therefore has.
    emulator: ClassVar[dict[str, Any]]
    #: How many epochs have been trained; kept by the task.
    epoch: int

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

    def second_loss(self, emulator: Emulator, inputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """What columns of a second store, of the same batch, add to the loss in training."""
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
