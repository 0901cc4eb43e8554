"""Parameters of each architecture in a training run, counted on the meta device of torch, which holds no data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from subgrid.base.errors import SubgridError, unknown_name
from subgrid.columns.variables import variable_set
from subgrid.emulator.emulator import network_shape
from subgrid.networks import NetworkShape, build, names, sizes
from subgrid.physics.vertical import VerticalGrid
from subgrid.training.fit import TrainConfig
from subgrid.training.recipes import Recipe, recipe


@dataclass(frozen=True)
class Sizes:
    """Trainable parameters by architecture, and why the others have none.

    Args:
        variables: the set that a run reads, which the recipe may have changed.
        levels: of the columns.
        parameters: by architecture.
        refused: the reason by architecture, where the recipe or the size cannot apply.
    """

    variables: str
    levels: int
    parameters: dict[str, int]
    refused: dict[str, str]


def parameter_counts(size: str, variables: str, recipe_name: str, levels: int | None = None) -> Sizes:
    """Trainable parameters of every architecture at ``size`` in a run with ``variables`` and a recipe.

    Args:
        size: ``small`` or ``paper``.
        variables: a variable set.
        recipe_name: a recipe with its defaults.
        levels: of the columns; None: those of the host that the set belongs to.

    Raises:
        UsageError: unknown names, fewer than 4 levels, or the recipe cannot apply to the variable set.
    """
    config = TrainConfig(data="", variables=variables, recipe=recipe_name)
    assert config.emulator is not None  # set by the config itself
    chosen, found = recipe(recipe_name), variable_set(config.variables)
    levels = found.usual_levels if levels is None else levels
    known = {one for name in names() for one in sizes(name)}
    if size not in known:
        raise unknown_name("size", size, known)
    # where the levels lie does not change their number
    grid = VerticalGrid.sigma(np.linspace(0.0, 1.0, max(levels, 1) + 1).tolist())
    shape = network_shape(found, grid, config.emulator)
    counted: dict[str, int] = {}
    refused: dict[str, str] = {}
    for name in names():
        try:
            counted[name] = _parameters(name, shape, size, chosen)
        except SubgridError as error:
            refused[name] = str(error)
    return Sizes(found.name, levels, counted, refused)


def _parameters(name: str, shape: NetworkShape, size: str, chosen: Recipe) -> int:
    with torch.device("meta"):
        network = build(name, shape, size)
    chosen.require(network)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
