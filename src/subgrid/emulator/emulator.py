"""The Emulator: raw SI columns in, raw SI tendencies and fluxes out; normalisation and constraints inside."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.emulator.base import ColumnEmulator, Counter
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.constraints import Constraint, build_constraints
from subgrid.emulator.features import InputFeatures
from subgrid.emulator.flat import flatten
from subgrid.emulator.inputs import build_inputs
from subgrid.emulator.masks import CONSTANT, apply_mask, parsed
from subgrid.emulator.representations import build_representations, represented
from subgrid.emulator.transforms import Standardise
from subgrid.networks import Network, NetworkShape, ProbabilisticNetwork, build
from subgrid.physics.vertical import VerticalGrid


class Emulator(ColumnEmulator):
    """Maps physical columns to physical tendencies.

    ``forward(profiles, scalars, memory)`` is encode -> network -> decode -> constrain. Level 0 is the top.
    All shapes carry n columns: profiles (n, level, P), scalars (n, S), memory (n, M) with M = 0 for networks
    without memory. It returns profiles, scalars, the new memory and diagnostics (n, numbers), described by
    ``counters``: the share of inputs and outputs beyond the training range and what each constraint did.

    Args:
        network: a network whose shape fits the variables and features.
        variables: what is read and predicted.
        grid: the vertical grid.
        time_step: the host's step that the tendencies are for, s.
        config: features, bounds and constraints.
    """

    def __init__(
        self,
        network: Network,
        variables: VariableSet,
        grid: VerticalGrid,
        time_step: float,
        config: EmulatorConfig,
    ) -> None:
        super().__init__(variables, grid, grid.n_levels, time_step, config)
        self.network = network
        if config.member >= 0:
            _distribution(network)
        self.features = InputFeatures(config.inputs, variables, grid, config.saturation)
        shape = network.shape
        self.inputs = build_inputs(config, shape.levels, self.features.names, shape.scalars_in)
        self.representations = build_representations(config, shape.levels, self.features.names)
        self.outputs = Standardise(shape.levels, shape.profiles_out, shape.scalars_out)
        for word in config.mask:
            if word != CONSTANT:
                parsed(word, variables, grid.n_levels)  # refuses what the outputs are not
        self.constraints = nn.ModuleList(build_constraints(config, variables, self.features, self.outputs, time_step))

    @property
    def counters(self) -> list[Counter]:
        """What the diagnostics hold, one after the other."""
        constraints = cast(list[Constraint], list(self.constraints))
        return [Counter("inputs_clipped"), Counter("outputs_clipped"), *(c.counted for c in constraints)]

    @property
    def watched(self) -> list[Counter]:
        """The features that the network reads: profiles, then scalars."""
        profile_names, levels = self.features.names, self.network.shape.levels
        return [
            *(Counter(name, "training spreads", levels) for name in profile_names),
            *(Counter(name, "training spreads") for name in self.features.scalar_names),
        ]

    def encode(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor]:
        """Raw SI -> normalised network inputs (within the training range if ``clip_inputs``)."""
        p, s, _, _ = self._encode(profile_values, scalar_values)
        return p, s

    def _encode(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Network inputs, the share of them beyond the training range, and how far the bounds moved each, flat."""
        p, s = self.features(profile_values, scalar_values)
        p, s = self.inputs(p, s)
        clipped_p, clipped_s, outside = self.inputs.clip(p, s, self.config.clip_margin)
        distance = flatten((p - clipped_p).abs(), (s - clipped_s).abs())
        if self.config.clip_inputs:
            p, s = clipped_p, clipped_s
        return self.representations(p), s, outside, distance

    def mask_outputs(self) -> None:
        """Make the outputs that ``config.mask`` names constant; once transforms are filled or weights are loaded."""
        apply_mask(self.config.mask, self.config.mask_to, self.variables, self.outputs)

    def normalise_targets(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor]:
        """Raw SI targets -> normalised outputs, where the loss lives; constant channels are 0."""
        p, s = self.outputs(profile_values, scalar_values)
        return p, s

    def predict(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised inputs -> normalised outputs: the network's first head, its mean, or the chosen member."""
        if self.config.member >= 0:
            p, s = _distribution(self.network).member(profile_values, scalar_values, self.config.member)
            return p, s
        p, s = self.network(profile_values, scalar_values)
        if self.config.confidence:
            p, s = p[:, :, : self.network.shape.profiles_out], s[:, : self.network.shape.scalars_out]
        return p, s

    @property
    def answer(self) -> str:
        """What :meth:`forward` gives: of a network that gives a distribution, its mean or a seeded draw."""
        if not isinstance(self.network, ProbabilisticNetwork):
            return "the network's output"
        return "mean of the distribution" if self.config.member < 0 else f"seeded draw {self.config.member}"

    def sample(
        self, profile_values: Tensor, scalar_values: Tensor, members: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Raw SI columns -> independent draws in raw SI, (member, n, level, P) and (member, n, S).

        Bounds of the training range are kept; constraints act on one answer and not on draws.

        Raises:
            UsageError: the network gives no distribution.
        """
        network = _distribution(self.network)
        p, s = self.encode(profile_values, scalar_values)
        drawn = network.sample(p, s, members, generator)
        parts = [self.decode(*one)[:2] for one in zip(*drawn, strict=True)]
        return torch.stack([p for p, _ in parts]), torch.stack([s for _, s in parts])

    def confidence(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor]:
        """Raw SI columns -> the loss that each normalised output is expected to have, (n, level, P) and (n, S).

        Raises:
            SubgridError: the emulator was trained without ``confidence``.
        """
        return self.with_confidence(profile_values, scalar_values)[2:]

    def with_confidence(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The answer of :meth:`forward` and :meth:`confidence`, of one call of the network.

        Raises:
            SubgridError: the emulator was trained without ``confidence``.
        """
        if not self.config.confidence:
            raise SubgridError("the emulator has no confidence: train it with recipe=confidence")
        cut_p, cut_s = self.network.shape.profiles_out, self.network.shape.scalars_out
        both_p, both_s = self.network(*self.encode(profile_values, scalar_values))
        p, s, _ = self._answered(profile_values, scalar_values, both_p[:, :, :cut_p], both_s[:, :cut_s])
        return p, s, both_p[:, :, cut_p:], both_s[:, cut_s:]

    def decode(self, profile_values: Tensor, scalar_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised outputs -> raw SI (within the training range if ``clip_outputs``), and the share outside."""
        p, s, outside = self.outputs.clip(profile_values, scalar_values, self.config.clip_margin)
        if not self.config.clip_outputs:
            p, s = profile_values, scalar_values
        p, s = self.outputs.inverse(p, s)
        return p, s, outside

    def forward(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw SI columns -> raw SI tendencies and fluxes, memory, diagnostics."""
        p, s, memory, diagnostics, _ = self.monitored(profile_values, scalar_values, memory)
        return p, s, memory, diagnostics

    def monitored(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`forward`, and how far each input lies beyond its training range, widened by ``clip_margin``."""
        p, s, inputs_outside, distance = self._encode(profile_values, scalar_values)
        p, s, counted = self._answered(profile_values, scalar_values, *self.predict(p, s))
        return p, s, memory, torch.cat([inputs_outside.unsqueeze(1), counted], dim=1), distance

    def _answered(
        self, profile_values: Tensor, scalar_values: Tensor, p: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Raw inputs and normalised outputs -> raw outputs within bounds and constraints, and what these counted."""
        p, s, outputs_outside = self.decode(p, s)
        counted = [outputs_outside.unsqueeze(1)]
        for constraint in self.constraints:
            p, s, count = constraint(profile_values, scalar_values, p, s)
            counted.append(count.reshape(count.shape[0], -1))
        return p, s, torch.cat(counted, dim=1)


def _distribution(network: Network) -> ProbabilisticNetwork:
    """``network``, if it gives a distribution; raises :class:`UsageError` otherwise."""
    if not isinstance(network, ProbabilisticNetwork):
        raise UsageError(f"architecture {network.architecture} gives one answer: it has no members to draw")
    return network


def network_shape(variables: VariableSet, grid: VerticalGrid, config: EmulatorConfig) -> NetworkShape:
    """Sizes of the network that fits ``variables`` and the features of ``config``."""
    features = InputFeatures(config.inputs, variables, grid, config.saturation)
    return NetworkShape(
        levels=grid.n_levels,
        profiles_in=represented(config, features.names),
        scalars_in=len(scalars(variables.inputs)),
        profiles_out=len(profiles(variables.targets)),
        scalars_out=len(scalars(variables.targets)),
        heads=2 if config.confidence else 1,
    )


def build_emulator(
    architecture: str,
    variables: VariableSet,
    grid: VerticalGrid,
    time_step: float,
    config: EmulatorConfig | None = None,
    size: str = "small",
    **hyperparameters: Any,
) -> Emulator:
    """A fresh emulator with unfitted transforms (see :func:`subgrid.training.statistics.fit_transforms`).

    Raises:
        UsageError: unknown names, or variables that the features or constraints need and the set lacks.
    """
    config = config or EmulatorConfig()
    shape = network_shape(variables, grid, config)
    return Emulator(build(architecture, shape, size, **hyperparameters), variables, grid, time_step, config)
