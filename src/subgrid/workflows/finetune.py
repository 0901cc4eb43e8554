"""Per-group fine-tuning: a copy of a run for each group of outputs, and the emulator that takes each from its own.

After the second place of LEAP's competition, whose seven groups (each profile, all scalars) had one epoch each.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import make_folder, only_writer, write_json
from subgrid.base.logs import log_file
from subgrid.columns.store import Split, open_store
from subgrid.columns.variables import VariableSet, offsets
from subgrid.emulator.blend import BlendedEmulator
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.files import load_emulator, save_emulator
from subgrid.emulator.flat import flatten
from subgrid.training.fit import TrainConfig, fit
from subgrid.training.recipes import Recipe, recipe

logger = logging.getLogger("subgrid")
#: Each profile for itself and all scalars together; or each variable for itself.
GROUPS = ("profiles", "variables")
SCALARS = "scalars"
Groups = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class FinetuneConfig:
    """Per-group fine-tuning.

    Args:
        run: whose weights every copy begins with.
        train: how a copy is trained, but for ``recipe.outputs``.
        groups: one of :data:`GROUPS`, or lists of output variables, whose other outputs stay those of the run.
    """

    run: str
    train: TrainConfig
    groups: str | list[list[str]] = GROUPS[0]

    def __post_init__(self) -> None:
        if isinstance(self.groups, str) and self.groups not in GROUPS:
            raise unknown_name("groups", self.groups, GROUPS)
        if not isinstance(self.groups, str):
            lists = isinstance(self.groups, list) and self.groups and all(isinstance(g, list) for g in self.groups)
            if not lists or not all(isinstance(name, str) for group in self.groups for name in group):
                raise UsageError(f"groups={self.groups} must be profiles, variables or lists, such as [[a,b],[c]]")
        if self.train.transforms != "kept":
            raise UsageError("transforms=refitted changes the units of the loss, by which copies and run are compared")
        if self.train.recipe_settings.get("outputs"):
            raise UsageError("recipe.outputs says what one copy learns: name groups= in its place")


def groups_of(asked: str | list[list[str]], variables: VariableSet) -> Groups:
    """Groups of output variables by name.

    Raises:
        UsageError: no such output, one in two groups, or an empty group.
    """
    targets = {v.name: v.kind for v in variables.targets}
    if asked == "variables":
        return {name: (name,) for name in targets}
    if asked == "profiles":
        single = tuple(name for name, kind in targets.items() if kind == "scalar")
        own: Groups = {name: (name,) for name, kind in targets.items() if kind == "profile"}
        return {**own, **({SCALARS: single} if single else {})}
    named = [name for group in asked for name in group]
    for name in named:
        if name not in targets:
            raise unknown_name("groups: output", name, targets)
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice or not all(asked):
        raise UsageError(f"groups: {', '.join(twice) or 'a group'} is {'in two groups' if twice else 'empty'}")
    return {"+".join(group): tuple(group) for group in asked}


def finetune(config: FinetuneConfig, out: Path | str) -> dict[str, Any]:
    """Train a copy for each group, and write ``emulator`` (a blend of weights 0 and 1) and ``groups.json``.

    A group whose outputs do not vary, or whose loss on the validation split its copy does not lower, keeps the outputs
    of the run itself. The same command goes on where it was cut: finished copies are not trained again.

    Returns:
        ``groups``: for each its ``outputs``, the loss of these on validation ``before`` and ``after``, and ``tuned``,
        whether the copy is used.

    Raises:
        UsageError: groups that do not fit the run, or settings that do not.
        SubgridError: an unreadable run or store, or no group that became better.
    """
    out = Path(out)
    base, store = load_emulator(config.run), open_store(config.train.data)
    groups = groups_of(config.groups, base.variables)
    with only_writer(out), log_file(make_folder(out), "finetune"):
        told, members = _copies(config, base, store["validation"], groups, out)
        emulator = _combined(base, members, groups)
        said: dict[str, Any] = {name: base.metadata[name] for name in ("seed", "recipe") if name in base.metadata}
        words = f"of {config.run}, and of a copy for each of {len(members)} groups of outputs"
        emulator.metadata = {**said, "store": config.train.data, "from": {"run": config.run}, "weights": words}
        save_emulator(emulator, out / "emulator")
        result = {"run": config.run, "store": config.train.data, "groups": told}
        write_json(out / "groups.json", result)
        return result


def _copies(
    config: FinetuneConfig, base: Emulator, split: Split, groups: Groups, out: Path
) -> tuple[dict[str, Any], dict[str, Emulator]]:
    """What is told of each group, and the copies that are used."""
    told: dict[str, Any] = {}
    members: dict[str, Emulator] = {}
    for name, outputs in groups.items():
        if not _varies(base, outputs):
            told[name] = {"outputs": list(outputs), "before": None, "after": None, "tuned": False}
            continue
        train, chosen = _of_group(config, outputs)
        tuned = fit(train, out / f"group-{name}")
        before, after = (validation_loss(one, chosen, split) for one in (base, tuned))
        told[name] = {"outputs": list(outputs), "before": before, "after": after, "tuned": after < before}
        if after < before:
            members[name] = tuned
        else:
            logger.info("finetune: group %s did not become better (%.5g, %.5g) and is left out", name, before, after)
    return told, members


def _of_group(config: FinetuneConfig, outputs: tuple[str, ...]) -> tuple[TrainConfig, Recipe]:
    settings = {**config.train.recipe_settings, "outputs": list(outputs)}
    train = replace(config.train, recipe_settings=settings, from_run=config.run)
    return train, recipe(train.recipe, **settings)


def _places(variables: VariableSet, levels: int, outputs: tuple[str, ...]) -> NDArray[np.intp]:
    """Flat channels of ``outputs``."""
    place = offsets(variables.targets, levels)
    return np.concatenate([np.arange(place[name].start, place[name].stop) for name in outputs])


def _varies(emulator: Emulator, outputs: tuple[str, ...]) -> bool:
    spread = emulator.outputs.get_buffer("profile_std"), emulator.outputs.get_buffer("scalar_std")
    flat = flatten(spread[0][None], spread[1][None])[0].numpy()
    return bool((flat[_places(emulator.variables, emulator.levels, outputs)] > 0).any())


def validation_loss(emulator: Emulator, chosen: Recipe, split: Split) -> float:
    """The recipe's plain loss on all rows of ``split``, in float32, blocks weighted by their rows."""
    total = 0.0
    with torch.inference_mode():
        for block in range(split.blocks):
            x, y = (split.read_variables(v, block) for v in (emulator.variables.inputs, emulator.variables.targets))
            weight = torch.from_numpy(split.read("weight", block))
            loss = chosen.loss(emulator, torch.from_numpy(x), torch.from_numpy(y), weight, training=False)
            total += float(loss) * len(x)
    return total / split.samples


def _combined(base: Emulator, members: Mapping[str, Emulator], groups: Groups) -> BlendedEmulator:
    """Each group from its copy, and what has none from the run itself."""
    if not members:
        raise SubgridError(
            "finetune: no group became better on validation: lower recipe.learning_rate, or train longer"
        )
    channels = base.network.shape.flat_out
    weights = np.zeros((1 + len(members), channels))
    for k, name in enumerate(members, start=1):
        weights[k, _places(base.variables, base.levels, groups[name])] = 1.0
    weights[0] = 1.0 - weights[1:].sum(0)
    emulators = [base, *members.values()]
    if not weights[0].any() and len(members) > 1:
        emulators, weights = emulators[1:], weights[1:]
    return BlendedEmulator(emulators, weights)


def finetune_lines(told: Mapping[str, Any]) -> list[str]:
    """What a terminal shows."""
    lines = [f"{'validation loss of its outputs':40s}{'before':>12s}{'after':>12s}"]
    for name, entry in told["groups"].items():
        if entry["before"] is None:
            lines.append(f"{name:40s}{'constant':>12s}")
            continue
        kept = "" if entry["tuned"] else "  not better: the run's own outputs stay"
        lines.append(f"{name:40s}{entry['before']:12.5f}{entry['after']:12.5f}{kept}")
    return lines
