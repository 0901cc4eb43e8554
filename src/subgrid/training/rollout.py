"""Fine-tuning through the differentiable host: the loss compares the model's state after several coupled steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import make_folder, only_writer, write_json
from subgrid.base.formats import RUN, write_record
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.base.provenance import provenance
from subgrid.columns.loader import ColumnLoader
from subgrid.columns.store import ColumnStore, open_store
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.files import load_emulator, save_emulator
from subgrid.emulator.flat import FlatEmulator, flatten
from subgrid.hosts.base import check_fits, host_of
from subgrid.hosts.speedy.host import Speedy
from subgrid.hosts.speedy.rollout import DifferentiableDynamics
from subgrid.training.recipes import Recipe, recipe
from subgrid.training.recipes.standard import channel_weights

logger = logging.getLogger("subgrid")


@dataclass(frozen=True)
class RolloutConfig:
    """Fine-tuning of a trained emulator over short stretches inside the host.

    Args:
        emulator: run folder to start from.
        data: the store that it was trained on; its splits go on being trained on, and its host is the one.
        steps: coupled steps of a stretch.
        iterations: optimiser steps, each with one stretch and one batch of the store.
        learning_rate: its peak; it falls as a cosine to zero.
        rollout_weight: weight of the stretch's loss beside the recipe's.
        state_stride: steps of the host between the states where stretches begin.
        seed: of the order of states and batches.
    """

    emulator: str
    data: str
    steps: int = 6
    iterations: int = 400
    learning_rate: float = 2e-4
    rollout_weight: float = 1.0
    state_stride: int = 125
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "iterations", "state_stride"):
            if getattr(self, name) < 1:
                raise UsageError(f"rollout.{name}={getattr(self, name)} must be at least 1")


class _Step(torch.autograd.Function):
    """One step of the host's dynamics as an operation of torch."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, physics: Tensor, dynamics: DifferentiableDynamics, clock: Any) -> Any:
        ctx.taken = (jnp.asarray(state.numpy()), jnp.asarray(physics.numpy()), *clock)
        ctx.dynamics = dynamics
        after, columns = dynamics.advance(*ctx.taken)
        return torch.from_numpy(np.array(after)), torch.from_numpy(np.array(columns))

    @staticmethod
    def backward(ctx: Any, *towards: Tensor) -> Any:
        given = tuple(jnp.asarray(g.numpy()) for g in towards)
        found = ctx.dynamics.pull(*ctx.taken, given)
        return (*(torch.from_numpy(np.array(g)) for g in found), None, None)


class StateLoss:
    """Mean squared error of temperature, humidity and wind after each step, in what physics changes in the stretch.

    A channel's unit is the spread of its tendency x the length of the stretch, its weight that of the recipe's loss; a
    channel that column physics leaves alone weighs nothing.
    """

    def __init__(self, emulator: Emulator, recipe: Recipe, steps: int) -> None:
        weight, _ = channel_weights(emulator, recipe.config.energy_weight)
        spread = cast(Tensor, emulator.outputs.profile_std) * (emulator.time_step * steps)
        unit = torch.where(spread > 0, spread, torch.ones_like(spread))
        names = [v.name for v in emulator.variables.targets if v.kind == "profile"]
        inputs = [v.name for v in emulator.variables.inputs if v.kind == "profile"]
        order = [names.index(f"{name}_tendency") for name in inputs[: len(names)]]
        share = (weight / unit.square())[:, order].unsqueeze(0)
        self.weight = flatten(share, share.new_zeros(1, 0)) / weight.sum()

    def __call__(self, found: Tensor, truth: Tensor) -> Tensor:
        """Columns (n, n_in) after a step, and the host's own."""
        part = self.weight.shape[1]
        return ((found[:, :part] - truth[:, :part]).square() * self.weight).sum(1).mean()


def finetune(config: RolloutConfig, out: Path | str) -> Emulator:
    """Fine-tune ``config.emulator`` into the run folder ``out`` (``emulator``, ``config.json``, ``metrics.json``).

    Every iteration adds, to the recipe's loss on a batch of the store, the error of the coupled model's state after
    each of ``steps`` steps beside the host's own trajectory from the same state; gradients pass through the dynamics
    (as in solver-in-the-loop training, Um et al. 2020). The states lie in the store's training stretch.

    Raises:
        UsageError: the emulator reads memory, or does not fit the store's host.
        SubgridError: unreadable inputs, or a loss that is not finite.
    """
    out = Path(out)
    with only_writer(out):
        if (out / "metrics.json").exists():
            return load_emulator(out)
        store = open_store(config.data)
        emulator = load_emulator(config.emulator)
        driven = host_of(store)
        check_fits(emulator, driven)
        if not isinstance(driven, Speedy) or emulator.variables.name != "speedy":
            raise UsageError("rollouts are differentiated through host 'speedy' with variables=speedy alone")
        make_folder(out)
        write_record(out / "config.json", RUN, asdict(config))
        write_json(out / "provenance.json", provenance(store=dict(store.spec.provenance)))
        with log_file(out, "finetune"):
            return _finetune(config, store, emulator, DifferentiableDynamics(driven.model, emulator.variables), out)


def _finetune(
    config: RolloutConfig, store: ColumnStore, emulator: Emulator, dynamics: DifferentiableDynamics, out: Path
) -> Emulator:
    started = time.monotonic()
    chosen = recipe(str(emulator.metadata.get("recipe", "standard")))
    made = store.spec.provenance["generate"]
    states = list(dynamics.states(made["spin_up_days"], made["train_days"], config.state_stride))
    batches = _batches(config, store, emulator, chosen)
    loss_of_state = StateLoss(emulator, chosen, config.steps)
    optimizer = torch.optim.AdamW(emulator.network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations)
    random = np.random.default_rng(config.seed)
    history: list[dict[str, float]] = []
    with Progress("rollout", config.iterations, "iterations") as bar:
        for _ in range(config.iterations):
            optimizer.zero_grad()
            plain = chosen.loss(emulator, *next(batches), training=True)
            stretch = _stretch(emulator, dynamics, states[random.integers(len(states))], config.steps, loss_of_state)
            total = plain + config.rollout_weight * stretch
            if not torch.isfinite(total):
                raise SubgridError("the rollout's loss is not finite: use fewer steps or a lower learning rate")
            total.backward()
            torch.nn.utils.clip_grad_norm_(emulator.network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            history.append({"loss": plain.item(), "rollout_loss": stretch.item()})
            bar.update(1, f"{stretch.item():.4f}")
    emulator.metadata = {**emulator.metadata, "finetuned": f"{config.iterations} rollouts of {config.steps} steps"}
    save_emulator(emulator.eval(), out / "emulator")
    write_json(out / "metrics.json", {"seconds": round(time.monotonic() - started, 1), "losses": history})
    return emulator


def _batches(
    config: RolloutConfig, store: ColumnStore, emulator: Emulator, chosen: Recipe
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    names = ["train", "perturbed"] if "perturbed" in store.split_names else ["train"]
    loader = ColumnLoader(store.joined(*names), emulator.variables, chosen.config.batch_size, seed=config.seed)
    while True:
        for inputs, targets, weight in loader:
            yield torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(weight)


def _stretch(
    emulator: Emulator, dynamics: DifferentiableDynamics, carry: Any, steps: int, loss_of_state: StateLoss
) -> Tensor:
    """Mean loss of the state after 1 ... ``steps`` coupled steps from ``carry``."""
    flat = FlatEmulator(emulator)
    own = [torch.from_numpy(dynamics.columns(one)) for one in dynamics.trajectory(carry, steps + 1)]
    state, columns = torch.from_numpy(np.array(dynamics.state(carry))), own[0]
    total = torch.zeros(())
    for k in range(steps):
        physics, _ = flat(columns)
        state, columns = _Step.apply(state, physics, dynamics, dynamics.clock(carry, k))
        total = total + loss_of_state(columns, own[k + 1])
    return total / steps
