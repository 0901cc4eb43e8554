"""A stranger's TorchScript network as an emulator: flat columns in the published order, raw SI in and out."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.variables import VariableSet, channel_labels, profiles, scalars, variable_set, variable_set_names
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.flat import flatten, unflatten
from subgrid.emulator.probe import Probe, probe
from subgrid.physics.vertical import VerticalGrid

logger = logging.getLogger("subgrid")
#: What published files of a set read, where that differs: liquid and ice, from which they form cloud water inside.
READ_AS = {"v2_rh_mc": "v2_rh", "v5": "v4", "v6": "v6_raw"}
#: Levels and step of ClimSim, where the caller does not say.
LEVELS, TIME_STEP = 60, 1200.0
#: Nothing is clipped, constrained or turned into features here: the file does what it does.
AS_IT_IS = EmulatorConfig(inputs="raw", saturation="sam", clip_inputs=False, clip_outputs=False, positive_water=False)


class PublishedEmulator(ColumnEmulator):
    """Stands where an :class:`subgrid.emulator.Emulator` stands; its normalisation lies inside the file.

    Args:
        module: TorchScript, ``(n, n_in) -> (n, n_out)`` or, with confidences, ``(n, n_out + m)``; float32.
        variables: what it takes and gives.
        order: where each channel that it takes lies in the flat order of ``variables``, (n_in,).
        grid: the vertical grid, or None.
        levels: number of levels.
        time_step: of the host, s.
        source: the file.
        named: the variable set that its authors name, by which it is loaded again.
    """

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        variables: VariableSet,
        order: Tensor,
        grid: VerticalGrid | None,
        levels: int,
        time_step: float,
        source: Path,
        named: str,
    ) -> None:
        super().__init__(variables, grid, levels, time_step, AS_IT_IS)
        self.module, self.source, self.named = module, source, named
        self.register_buffer("order", order, persistent=False)
        self.n_profiles, self.n_out = len(profiles(variables.targets)), _width(variables.targets, levels)
        self.metadata = {"published": source.name}

    def forward(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw SI columns -> raw SI tendencies and fluxes, memory, no diagnostics."""
        y = self._all(profile_values, scalar_values)[:, : self.n_out]
        p, s = unflatten(y, self.n_profiles, self.levels)
        return p, s, memory, profile_values.new_zeros(profile_values.shape[0], 0)

    def confidence(self, profile_values: Tensor, scalar_values: Tensor) -> Tensor:
        """What the network says of its own errors, in its normalised units, (n, m); m = 0 for most networks."""
        return self._all(profile_values, scalar_values)[:, self.n_out :]

    def _all(self, profile_values: Tensor, scalar_values: Tensor) -> Tensor:
        # index_select copies: a network that changes its input in place changes nothing of the caller's
        flat = flatten(profile_values, scalar_values).index_select(1, cast(Tensor, self.order))
        found: Tensor = self.module(flat)
        return found


def load_published(
    path: Path | str,
    variables: str,
    grid: VerticalGrid | None = None,
    time_step: float = TIME_STEP,
) -> PublishedEmulator:
    """Wrap a TorchScript file; it **executes code from the file**, and says so in the log.

    Args:
        path: the file.
        variables: the variable set that its authors name. Files of v2_rh_mc, v5 and v6 take cloud liquid and ice and
            split the cloud water that they predict: the emulator's own variables are then those of v2_rh, v4 and
            v6_raw. A file that takes and gives the set itself is recognised by its widths.
        grid: the vertical grid; None: 60 levels, of which nothing more is known.
        time_step: the host's step, s.

    Raises:
        UsageError: no or unknown ``variables``.
        SubgridError: not TorchScript, needs CUDA, takes or gives another width, or gives NaN.
    """
    path = Path(path)
    if not variables:
        raise UsageError(
            f"{path} is a file of TorchScript, which does not say what it reads: name its variables, such as "
            f"variables=v2_rh_mc; sets: {', '.join(variable_set_names())}"
        )
    named = variable_set(variables)
    levels = grid.n_levels if grid is not None else LEVELS
    module, ours = _read(path)
    read_as = variable_set(READ_AS.get(variables, variables))
    refused: list[Probe] = []
    for candidate in dict.fromkeys((read_as.name, named.name)):
        found = variable_set(candidate)
        order = _order(found, levels, ours)
        tried = probe(module, found, order, levels)
        if tried.fault is None:
            if tried.warning:
                logger.warning("%s %s", path, tried.warning)
            logger.info("%s takes %d numbers a column and gives %d (%s)", path, len(order), tried.n_out, found.name)
            return PublishedEmulator(module, found, order, grid, levels, time_step, path, variables)
        refused.append(tried)
    raise SubgridError(f"{path} does not work with variables={variables}: {refused[0].fault}{_others(module, levels)}")


def _read(path: Path) -> tuple[torch.jit.ScriptModule, list[str] | None]:
    """The module on the CPU, and the labels of its inputs if this package exported it."""
    _require_torchscript(path)
    logger.warning("%s is TorchScript: loading it executes code from the file; load only what you trust", path)
    extra = {"contract.json": ""}
    try:
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
        labels = json.loads(extra["contract.json"])["inputs"] if extra["contract.json"] else None
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SubgridError(
            f"{path} is TorchScript that this machine cannot load ({reason}): save it again with its torch.jit.script"
            "(...).save, on the CPU"
        ) from error
    return module.eval(), labels


def _require_torchscript(path: Path) -> None:
    """Refuse other files before anything of them is executed: TorchScript is a ZIP archive that holds code."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                return
        reason = "it holds no code: weights alone, such as torch.save writes, are no network"
    except (OSError, zipfile.BadZipFile) as error:
        reason = str(error)
    raise SubgridError(f"{path} is not TorchScript ({reason}): save the network with torch.jit.script(...).save")


def _order(variables: VariableSet, levels: int, ours: list[str] | None) -> Tensor:
    """Where what the file takes lies in our order; what this package exported takes our order itself."""
    own = channel_labels(variables.inputs, levels)
    return torch.arange(len(own)) if ours == own else torch.from_numpy(variables.published_order(levels).copy())


def _others(module: torch.jit.ScriptModule, levels: int) -> str:
    """The variable sets that the file would work with, as the end of a sentence."""
    fits = []
    for name in variable_set_names():
        candidate = variable_set(name)
        if probe(module, candidate, _order(candidate, levels, None), levels).fault is None:
            fits.append(name)
    return f"; by its widths it could be variables={' or '.join(fits)}" if fits else ""


def _width(variables: tuple, levels: int) -> int:
    return len(profiles(variables)) * levels + len(scalars(variables))
