"""Many small networks of one kind, trained together: one emulator's weights with a member's dimension in front."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from subgrid.base.errors import UsageError, require_seed
from subgrid.base.progress import Progress
from subgrid.columns.store import ColumnStore, Split
from subgrid.columns.variables import profiles, variable_set
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.emulator import Emulator, build_emulator
from subgrid.emulator.flat import FlatEmulator, unflatten
from subgrid.training.statistics import fit_transforms

logger = logging.getLogger("subgrid")


@dataclass(frozen=True)
class PopulationConfig:
    """Networks that differ in their seed alone.

    Args:
        variables: variable set; empty: the store's own.
        architecture, network: as for :class:`subgrid.training.TrainConfig`.
        emulator: features, bounds and constraints; empty: the variable set's.
        members: networks; member k has seed ``seed + k``, for its first weights and its order of columns.
        epochs, batch_size, learning_rate: of Adam, with the rate falling as a cosine to zero.
        input_noise: of every normalised input in training, in spreads.
        seed: of the first member.
    """

    variables: str = ""
    architecture: str = "mlp"
    network: dict[str, Any] = field(default_factory=lambda: {"widths": [64, 64]})
    emulator: dict[str, Any] = field(default_factory=dict)
    members: int = 100
    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 2e-3
    input_noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        for name in ("members", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"population: {name}={getattr(self, name)} must be at least 1")
        if not self.learning_rate > 0.0 or not self.input_noise >= 0.0:
            raise UsageError("population: learning_rate must be positive and input_noise not negative")


class Population:
    """Emulators that share everything but their networks' weights.

    Args:
        members: the emulators, of one kind.
    """

    def __init__(self, members: list[Emulator]) -> None:
        self.members = members
        self._flat = FlatEmulator(copy.deepcopy(members[0])).eval()
        self._weights, self._together = _stacked([FlatEmulator(m).eval() for m in members])

    def __len__(self) -> int:
        return len(self.members)

    @property
    def together(self) -> bool:
        """Whether they are evaluated in one go; otherwise one after the other."""
        return self._together

    def __call__(self, x: Tensor) -> Tensor:
        """Each member on columns of its own: raw (member, n, n_in) -> raw (member, n, n_out)."""
        with torch.no_grad():
            if not self._together:
                return torch.stack([FlatEmulator(m)(one)[0] for m, one in zip(self.members, x, strict=True)])

            def one(weights: Any, rows: Tensor) -> Tensor:
                y, _ = functional_call(self._flat, weights, (rows,))
                return torch.as_tensor(y)

            found: Tensor = vmap(one)(self._weights, x)
            return found


def _stacked(modules: list[Any]) -> tuple[Any, bool]:
    """All parameters and buffers with a member's dimension, and whether the modules can be mapped over it."""
    parameters, buffers = stack_module_state(modules)
    weights = ({k: v.detach() for k, v in parameters.items()}, buffers)
    probe = torch.zeros(len(modules), 8, modules[0].n_in)
    try:
        with torch.no_grad():
            vmap(lambda w, x: functional_call(modules[0], w, (x,))[0])(weights, probe)
    except Exception as error:  # whatever a layer does that torch cannot map
        logger.info("population: one network after the other (%s)", str(error).partition("\n")[0])
        return weights, False
    return weights, True


def _rows(split: Split, variables: Any) -> Tensor:
    blocks = [split.read_variables(variables, k) for k in range(split.blocks)]
    return torch.from_numpy(np.concatenate(blocks))


def fit_population(store: ColumnStore, config: PopulationConfig) -> Population:
    """Train all members by the squared error of normalised outputs, every column alike.

    Each member sees its own order of columns. Networks that torch can map over are trained in one go.

    Raises:
        UsageError: names or settings that cannot be.
    """
    chosen = variable_set(config.variables or store.own_set())
    settings = EmulatorConfig.from_dict({**chosen.emulator, **config.emulator})
    members = []
    for k in range(config.members):
        torch.manual_seed(config.seed + k)
        members.append(
            build_emulator(
                config.architecture, chosen, store.grid.vertical, store.spec.time_step, settings, **config.network
            )
        )
    first = members[0]
    fit_transforms(first, store["train"])
    state = {name: value for name, value in first.state_dict().items() if not name.startswith("network.")}
    for member in members[1:]:
        member.load_state_dict(state, strict=False)
    train = store["train"]
    with torch.no_grad():
        p, s = first.encode(*unflatten(_rows(train, chosen.inputs), len(profiles(chosen.inputs)), first.levels))
        targets = unflatten(_rows(train, chosen.targets), len(profiles(chosen.targets)), first.levels)
        t, u = first.normalise_targets(*targets)
    networks = [member.network.train() for member in members]
    _fit(networks, (p, s), (t, u), config)
    for member in members:
        member.eval()
    return Population(members)


def _fit(
    networks: list[Any], inputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor], config: PopulationConfig
) -> None:
    parameters, buffers = stack_module_state(networks)
    template = copy.deepcopy(networks[0])

    def loss(weights: Any, held: Any, p: Tensor, s: Tensor, t: Tensor, u: Tensor) -> Tensor:
        got_p, got_s = functional_call(template, (weights, held), (p, s))
        squares = (got_p - t).square().sum() + (got_s - u).square().sum()
        return squares / (t.numel() + u.numel())

    optimizer = torch.optim.Adam(list(parameters.values()), lr=config.learning_rate)
    n, batch = len(inputs[0]), min(config.batch_size, len(inputs[0]))
    steps = config.epochs * (n // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generators = [torch.Generator().manual_seed(config.seed + k) for k in range(len(networks))]
    together = vmap(loss, in_dims=(0, 0, 0, 0, 0, 0), randomness="different")
    with Progress("population", steps, "steps") as bar:
        for _ in range(config.epochs):
            orders = torch.stack([torch.randperm(n, generator=g) for g in generators])
            for first in range(0, n - batch + 1, batch):
                rows = orders[:, first : first + batch]
                p, s, t, u = (part[rows] for part in (*inputs, *targets))
                if config.input_noise:
                    p, s = (part + config.input_noise * torch.randn_like(part) for part in (p, s))
                optimizer.zero_grad(set_to_none=True)
                total = together(
                    parameters, buffers, p, s, t, u
                ).sum()  # members do not meet: each has its own gradient
                total.backward()
                optimizer.step()
                schedule.step()
                bar.update(1)
    for k, network in enumerate(networks):
        network.load_state_dict({name: value[k].detach() for name, value in parameters.items()}, strict=False)


def r2_of(population: Population, split: Split) -> np.ndarray:
    """Mean R2 of each member over the targets that vary, pooled over columns and levels, (member,)."""
    first = population.members[0]
    x, y = _rows(split, first.variables.inputs), _rows(split, first.variables.targets).double()
    found = population(x.expand(len(population), *x.shape)).double()
    scores, place = [], 0
    for variable in first.variables.targets:
        width = first.levels if variable.kind == "profile" else 1
        part = slice(place, place + width)
        place += width
        spread = (y[:, part] - y[:, part].mean(0)).square().sum()
        if spread > 0:
            scores.append(1.0 - (found[:, :, part] - y[:, part]).square().sum((1, 2)) / spread)
    return torch.stack(scores).mean(0).numpy()


__all__ = ["Population", "PopulationConfig", "fit_population", "r2_of"]
