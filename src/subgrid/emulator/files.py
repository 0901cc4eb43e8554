"""Emulators on disk: ``weights.safetensors`` and ``emulator.json``; nothing in them names code to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError
from subgrid.base.files import make_folder, read_json, write_json
from subgrid.base.formats import EMULATOR, mark, require_format
from subgrid.base.provenance import versions
from subgrid.columns.variables import VariableSet
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.emulator import Emulator, build_emulator, network_shape
from subgrid.networks import NetworkShape, build
from subgrid.physics.vertical import VerticalGrid

DESCRIPTION, WEIGHTS = "emulator.json", "weights.safetensors"


def save_emulator(emulator: Emulator, folder: Path | str) -> Path:
    """Write ``emulator`` into ``folder`` (weights first, then the description that makes it valid)."""
    folder = make_folder(Path(folder))
    write_arrays(
        folder / WEIGHTS, {name: value.detach().cpu().numpy() for name, value in emulator.state_dict().items()}
    )
    network = emulator.network
    write_json(
        folder / DESCRIPTION,
        {
            **mark(EMULATOR),
            "architecture": network.architecture,
            "hyperparameters": network.hyperparameters,
            "variables": emulator.variables.to_dict(),
            "vertical_grid": emulator.grid.to_dict(),
            "time_step": emulator.time_step,
            "emulator": emulator.config.to_dict(),
            "metadata": emulator.metadata,
            "versions": versions(),
        },
    )
    return folder


def load_emulator(folder: Path | str, **changes: Any) -> Emulator:
    """Read an emulator back, in evaluation mode on the CPU.

    Args:
        folder: an emulator folder, or a run folder that holds one in ``emulator/``.
        changes: settings of :class:`EmulatorConfig` to use instead of the saved ones (bounds and constraints may
            change after training; ``inputs`` and ``saturation`` may not).

    Raises:
        SubgridError: missing, damaged or foreign files, weights that do not fit, or another format version.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).exists() and (folder / "emulator" / DESCRIPTION).exists():
        folder = folder / "emulator"
    if not (folder / DESCRIPTION).exists():
        raise SubgridError(f"{folder} holds no emulator ({DESCRIPTION} is missing): train one with `subgrid train`")
    description = require_format(read_json(folder / DESCRIPTION), EMULATOR, folder / DESCRIPTION)
    emulator = _rebuild(description, folder, changes)
    _load_weights(emulator, folder / WEIGHTS)
    return emulator.eval()


def _rebuild(description: dict[str, Any], folder: Path, changes: dict[str, Any]) -> Emulator:
    try:
        saved = EmulatorConfig.from_dict(description["emulator"])
        config = EmulatorConfig.from_dict({**saved.to_dict(), **changes})
        if (config.inputs, config.saturation) != (saved.inputs, saved.saturation):
            raise SubgridError(
                f"{folder} was trained with inputs={saved.inputs}, saturation={saved.saturation}: these cannot "
                "change after training"
            )
        time_step = float(description["time_step"])
        if not 0.0 < time_step < float("inf"):
            raise ValueError(f"time_step is {time_step}")
        variables = VariableSet.from_dict(description["variables"])
        grid = VerticalGrid.from_dict(description["vertical_grid"])
        architecture, settings = str(description["architecture"]), dict(description["hyperparameters"])
        _require_size(architecture, network_shape(variables, grid, config), settings, folder / WEIGHTS)
        emulator = build_emulator(architecture, variables, grid, time_step, config, **settings)
        emulator.metadata = dict(description.get("metadata") or {})
        return emulator
    except (KeyError, TypeError, ValueError) as error:
        raise SubgridError(f"{folder / DESCRIPTION} is damaged ({error!r})") from error


def _require_size(architecture: str, shape: NetworkShape, settings: dict[str, Any], path: Path) -> None:
    """Refuse a description of a network larger than its weights' file, before memory is taken for it."""
    with torch.device("meta"):
        network = build(architecture, shape, **settings)
    described = sum(p.numel() * p.element_size() for p in network.parameters())
    if path.exists() and described > path.stat().st_size:
        raise SubgridError(
            f"{path} is damaged or truncated: its description needs {described} bytes, it has {path.stat().st_size}"
        )


def _load_weights(emulator: Emulator, path: Path) -> None:
    state = {name: torch.from_numpy(values) for name, values in read_arrays(path).items()}
    expected = {name: tuple(value.shape) for name, value in emulator.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[:3]
        raise SubgridError(f"{path} does not fit its description, first differences: {wrong}")
    bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise SubgridError(f"{path} holds NaN or infinity in {', '.join(bad[:3])}")
    emulator.load_state_dict(state)
