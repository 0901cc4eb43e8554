"""The standard recipe: one deterministic head, regression on standardised targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from subgrid.base.errors import UsageError, unknown_name
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.emulator.budgets import NAMES, ColumnBudget, column_budget, find_budget
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import unflatten
from subgrid.networks import Network, ProbabilisticNetwork
from subgrid.training.processes import mean_over_processes
from subgrid.training.recipes.base import RecipeConfig, register
from subgrid.training.schedules import rate_factor

#: Where the loss of perturbed columns turns from squared to linear, in spreads of the climate.
TAIL = 2.0
_LOSSES: dict[str, Callable[..., Tensor]] = {
    "huber": functional.huber_loss,
    "mae": functional.l1_loss,
}


def channel_weights(emulator: Emulator, energy_weight: float, outputs: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Weights of the loss, profiles (level, P) and scalars (S,), each variable's mean 1 over its live channels.

    A constant channel weighs nothing, and where ``outputs`` are named no other variable weighs anything.

    Raises:
        UsageError: an output that the emulator has not, or none that varies.
    """
    spread = cast(Tensor, emulator.outputs.profile_std).double()
    live = (spread > 0).double()
    thickness = torch.as_tensor(np.diff(np.add(emulator.grid.hyai, emulator.grid.hybi)))[:, None]
    energy = spread.square() * thickness
    energy = energy / (energy.sum(0) / live.sum(0).clamp(min=1)).clamp(min=1e-300)
    weight_p = live * ((1.0 - energy_weight) + energy_weight * energy)
    weight_s = (cast(Tensor, emulator.outputs.scalar_std) > 0).double()
    if outputs:
        targets = emulator.variables.targets
        unknown = [name for name in outputs if name not in {v.name for v in targets}]
        if unknown:
            raise unknown_name("recipe.outputs", unknown[0], [v.name for v in targets])
        weight_p = weight_p * torch.tensor([float(v.name in outputs) for v in profiles(targets)])
        weight_s = weight_s * torch.tensor([float(v.name in outputs) for v in scalars(targets)])
        if not weight_p.any() and not weight_s.any():
            raise UsageError(f"recipe.outputs={list(outputs)} do not vary in the training columns: nothing could learn")
    return weight_p.float(), weight_s.float()


@dataclass(frozen=True)
class Errors:
    """What an objective compares, normalised: (n, level, P) and (n, S), and how much each part of it counts.

    Args:
        profiles, scalars: the network's outputs of all heads.
        true_profiles, true_scalars: the targets.
        weight_p, weight_s: of the channels, (level, P) and (S,).
        perturbed: (n,) rows off the climate.
        row: weight of each row, (n,).
        rows: their sum, or where several processes share a batch the mean of their sums: the mean of their losses is
            then the loss of the batch.
        squared: weight of the squared error, which is added to the loss.
        polished: the squared error alone counts.
    """

    profiles: Tensor
    scalars: Tensor
    true_profiles: Tensor
    true_scalars: Tensor
    weight_p: Tensor
    weight_s: Tensor
    perturbed: Tensor
    row: Tensor
    rows: Tensor
    squared: float = 0.0
    polished: bool = False

    def mean(self, profiles: Tensor, scalars: Tensor) -> Tensor:
        """Weighted mean over rows and channels of elementwise losses (n, level, P) and (n, S)."""
        per_row = (profiles * self.weight_p).sum((1, 2)) + (scalars * self.weight_s).sum(1)
        rows = self.rows.clamp(min=1e-12)  # a batch of perturbed columns alone, weighted zero
        return (per_row * self.row).sum() / (rows * (self.weight_p.sum() + self.weight_s.sum()))

    def first(self) -> tuple[Tensor, Tensor]:
        """The prediction: the first head."""
        return self.profiles[..., : self.weight_p.shape[1]], self.scalars[..., : self.weight_s.shape[0]]

    def second(self) -> tuple[Tensor, Tensor]:
        """What the second head gives."""
        return self.profiles[..., self.weight_p.shape[1] :], self.scalars[..., self.weight_s.shape[0] :]


def residual_error(errors: Errors, budget: ColumnBudget, emulator: Emulator, s_in: Tensor) -> Tensor:
    """Mean over rows of ``(sum a e)^2 / sum a^2``: e the normalised errors, a what a spread of each output counts.

    The terms that the inputs give cancel, so that this is the difference to the truth's residual whether or not the
    truth closes.
    """
    factor_p, factor_s = budget.factors(s_in)
    a_p = factor_p * cast(Tensor, emulator.outputs.profile_std)
    a_s = factor_s * cast(Tensor, emulator.outputs.scalar_std)
    p, s = errors.first()
    wrong = (a_p * (p - errors.true_profiles)).sum((1, 2)) + (a_s * (s - errors.true_scalars)).sum(1)
    size = a_p.square().sum((1, 2)) + a_s.square().sum()
    return (errors.row * wrong.square() / size.clamp(min=1e-30)).sum() / errors.rows.clamp(min=1e-12)


def _squared(found: Tensor, truth: Tensor, perturbed: Tensor) -> Tensor:
    """Squared errors, of perturbed columns linear beyond :data:`TAIL`."""
    plain = functional.mse_loss(found, truth, reduction="none")
    if not perturbed.any():
        return plain
    # Huber's loss is half the squared error near zero.
    robust = 2.0 * functional.huber_loss(found, truth, reduction="none", delta=TAIL)
    return torch.where(perturbed.reshape(-1, *([1] * (found.ndim - 1))), robust, plain)


@register("standard")
class Standard:
    """MSE (or Huber, MAE, and a polish by MSE) on normalised outputs; AdamW; linear warm-up and a schedule."""

    #: Settings of the emulator that the recipe needs.
    emulator: ClassVar[dict[str, Any]] = {}
    #: Whether the recipe changes what is minimised, which a network that brings its own loss does not allow.
    own_objective: ClassVar[bool] = False

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.epoch = 0
        self._weights: tuple[Tensor, Tensor] | None = None
        self._budgets: dict[str, ColumnBudget] = {}

    def variables(self, found: VariableSet) -> VariableSet:
        """The variable set that a run with ``found`` reads and predicts."""
        return found

    def require(self, network: Network) -> None:
        """Refuse a network that brings its own loss where the recipe or ``loss`` sets another."""
        if not isinstance(network, ProbabilisticNetwork):
            return
        brings = f"architecture {network.architecture} brings its own loss"
        if self.own_objective:
            name = type(self).__name__.lower()
            raise UsageError(f"{brings}, which recipe {name} would change: use standard, or a recipe of other inputs")
        if self.config.loss != "mse":
            raise UsageError(f"{brings}: recipe.loss={self.config.loss} cannot apply")
        if self.config.energy_penalty or self.config.water_penalty:
            raise UsageError(f"{brings}: recipe.energy_penalty and recipe.water_penalty cannot apply")
        if self.config.mse_weight or self.config.second_mse_weight:
            raise UsageError(f"{brings}: recipe.mse_weight and recipe.second_mse_weight cannot apply")

    def loss(self, emulator: Emulator, inputs: Tensor, targets: Tensor, weight: Tensor, training: bool) -> Tensor:
        """Scalar loss of raw flat columns (n, channel).

        Perturbed columns (weight zero in the store) count ``perturbed_weight`` and, because their targets have heavy
        tails, with a Huber loss of delta 2 in place of the squared error.
        """
        return self._loss(emulator, (inputs, targets, weight), training, self.config.mse_weight if training else 0.0)

    def second_loss(self, emulator: Emulator, inputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """``second_weight`` times the loss of a second store's columns, and ``second_mse_weight`` times their MSE."""
        config = self.config
        squared = config.second_mse_weight / config.second_weight
        return config.second_weight * self._loss(emulator, (inputs, targets, weight), True, squared)

    def _loss(self, emulator: Emulator, batch: tuple[Tensor, Tensor, Tensor], training: bool, squared: float) -> Tensor:
        inputs, targets, weight = batch
        levels, shape = emulator.grid.n_levels, emulator.network.shape
        if self._weights is None:
            self._weights = channel_weights(emulator, self.config.energy_weight, self.config.outputs)
        with torch.autocast(inputs.device.type, enabled=False), torch.no_grad():
            p, s = emulator.encode(*unflatten(inputs, len(emulator.features.profile_names), levels))
            tp, ts = emulator.normalise_targets(*unflatten(targets, shape.profiles_out, levels))
            if training and self.config.input_noise > 0:
                p = p + self.config.input_noise * torch.randn_like(p)
                s = s + self.config.input_noise * torch.randn_like(s)
        perturbed = weight == 0
        row = torch.where(perturbed, self.config.perturbed_weight, 1.0)
        rows = mean_over_processes(row.sum()) if training else row.sum()
        weight_p, weight_s = (w.to(inputs.device) for w in self._weights)
        network = emulator.network
        if training and isinstance(network, ProbabilisticNetwork):
            errors = Errors(p, s, tp, ts, weight_p, weight_s, perturbed, row, rows)
            return errors.mean(*(part.float() for part in network.losses(p, s, tp, ts)))
        p, s = network(p, s)
        polished = self._polished(training)
        errors = Errors(p.float(), s.float(), tp, ts, weight_p, weight_s, perturbed, row, rows, squared, polished)
        loss = self.objective(errors, training)
        return self._with_penalties(loss, errors, emulator, inputs) if training else loss

    def _with_penalties(self, loss: Tensor, errors: Errors, emulator: Emulator, inputs: Tensor) -> Tensor:
        """``(1 - sum a) loss + sum a r^2`` over the budgets that have a weight a (Beucler et al. 2019)."""
        weights = {name: getattr(self.config, f"{name}_penalty") for name in NAMES}
        weights = {name: weight for name, weight in weights.items() if weight}
        if not weights:
            return loss
        _, s_in = unflatten(inputs, len(emulator.features.profile_names), emulator.grid.n_levels)
        total = (1.0 - sum(weights.values())) * loss
        for name, weight in weights.items():
            if name not in self._budgets:
                budget = column_budget(find_budget(name, emulator.variables), emulator.variables, emulator.grid)
                self._budgets[name] = budget.to(inputs.device)
            total = total + weight * residual_error(errors, self._budgets[name], emulator, s_in)
        return total

    def _polished(self, training: bool) -> bool:
        """Whether the squared error takes the loss's place: in the last epochs, and in every validation of such a run.

        By one loss before the polish and another in it, epochs could not be compared.
        """
        config = self.config
        return config.polish_epochs > 0 and (not training or self.epoch >= config.epochs - config.polish_epochs)

    def objective(self, errors: Errors, training: bool) -> Tensor:
        """What is minimised; without ``training`` the plain loss, by which all recipes are validated."""
        return errors.mean(*self.elementwise(errors))

    def elementwise(self, errors: Errors) -> tuple[Tensor, Tensor]:
        """Loss of each output of the first head, (n, level, P) and (n, S)."""
        p, s = errors.first()
        return self._elementwise(p, errors.true_profiles, errors), self._elementwise(s, errors.true_scalars, errors)

    def _elementwise(self, found: Tensor, truth: Tensor, errors: Errors) -> Tensor:
        if self.config.loss == "mse":
            return (1.0 + errors.squared) * _squared(found, truth, errors.perturbed)
        if errors.polished:
            return _squared(found, truth, errors.perturbed)
        plain = _LOSSES[self.config.loss](found, truth, reduction="none")
        return plain + errors.squared * _squared(found, truth, errors.perturbed) if errors.squared else plain

    def optimizer(self, emulator: Emulator, total_steps: int) -> tuple[torch.optim.Optimizer, Any]:
        """AdamW with decay on matrices, and a schedule per step."""
        config = self.config
        parameters = [p for p in emulator.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, foreach=True)
        factor = rate_factor(config, total_steps)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
