"""Emulators on disk: ``weights.safetensors`` and ``emulator.json``; nothing in them names code to run.

A published network is the exception: its folder holds the TorchScript file itself, and loading it needs ``trust``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import torch

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import make_folder, read_json, write_file, write_json
from subgrid.base.formats import EMULATOR, mark, require_format
from subgrid.base.provenance import versions
from subgrid.columns.normalisation import with_fill
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.blend import BlendedEmulator
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.emulator import Emulator, build_emulator, network_shape
from subgrid.emulator.flat import flatten
from subgrid.emulator.published import TIME_STEP, PublishedEmulator, load_published
from subgrid.networks import NetworkShape, build
from subgrid.physics.vertical import VerticalGrid

DESCRIPTION, WEIGHTS, PUBLISHED = "emulator.json", "weights.safetensors", "published.pt"
#: Where a blend's emulators lie, and more of them than this are taken for damage.
MEMBERS, MOST_MEMBERS = "members", 1000
#: Settings by which a network was trained, which therefore cannot change afterwards.
FIXED = (
    "inputs",
    "saturation",
    "normalization",
    "prune_inputs",
    "prune_outputs",
    "representation",
    "confidence",
    "paper_compatible",
)


def save_emulator(emulator: ColumnEmulator, folder: Path | str) -> Path:
    """Write ``emulator`` into ``folder`` (weights first, then the description that makes it valid)."""
    folder = make_folder(Path(folder))
    if isinstance(emulator, PublishedEmulator):
        return _save_published(emulator, folder)
    if isinstance(emulator, BlendedEmulator):
        return _save_blend(emulator, folder)
    assert isinstance(emulator, Emulator)
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


def _save_published(emulator: PublishedEmulator, folder: Path) -> Path:
    """A copy of the file, and beside it what its authors' readme said."""
    if not emulator.source.is_file():
        raise SubgridError(f"{emulator.source} is gone, and with it the network: put it back and save again")
    if emulator.source.resolve() != (folder / PUBLISHED).resolve():
        write_file(folder / PUBLISHED, lambda beside: shutil.copyfile(emulator.source, beside))
    write_json(
        folder / DESCRIPTION,
        {
            **mark(EMULATOR),
            "published": PUBLISHED,
            "variables_named": emulator.named,
            "vertical_grid": emulator.grid.to_dict() if emulator.has_grid else None,
            "time_step": emulator.time_step,
            "metadata": emulator.metadata,
            "versions": versions(),
        },
    )
    return folder


def _save_blend(blend: BlendedEmulator, folder: Path) -> Path:
    """Its members in folders of their own, and the weights of each channel."""
    for k, member in enumerate(blend.members):
        save_emulator(cast(Emulator, member), folder / MEMBERS / str(k))
    weights = {name: blend.get_buffer(name).cpu().numpy() for name in ("profile_weight", "scalar_weight")}
    write_arrays(folder / WEIGHTS, weights)
    write_json(
        folder / DESCRIPTION,
        {
            **mark(EMULATOR),
            "blend": len(blend.members),
            "metadata": blend.metadata,
            "versions": versions(),
        },
    )
    return folder


def _load_blend(folder: Path, description: dict[str, Any], changes: dict[str, Any]) -> BlendedEmulator:
    count, metadata = description["blend"], description.get("metadata")
    if not isinstance(count, int) or not 2 <= count <= MOST_MEMBERS or not isinstance(metadata, dict):
        raise SubgridError(f"{folder / DESCRIPTION} is damaged (it tells of {count!r} members)")
    members = [load_emulator(folder / MEMBERS / str(k), **changes) for k in range(count)]
    held = read_arrays(folder / WEIGHTS)
    try:
        parts = (torch.from_numpy(held[name]) for name in ("profile_weight", "scalar_weight"))
        blend = BlendedEmulator(members, flatten(*parts).double().numpy())
    except (KeyError, IndexError, RuntimeError, SubgridError) as error:
        raise SubgridError(f"{folder / WEIGHTS} does not fit its members ({error})") from error
    blend.metadata = metadata
    blend.eval()
    return blend


def load(
    path: Path | str,
    variables: str = "",
    grid: VerticalGrid | None = None,
    time_step: float | None = None,
    trust: bool = False,
    **changes: Any,
) -> ColumnEmulator:
    """An emulator from a run folder, or a published network from a TorchScript file.

    Args:
        path: a run folder or emulator folder, or a TorchScript file. Such a file **executes code** as it is loaded,
            which the log says.
        variables: what a TorchScript file reads, as its authors name it (``v2_rh_mc``); folders say it themselves.
        grid, time_step: where the TorchScript file's columns live (60 levels) and the host's step, s (1200).
        trust: load the TorchScript file of a folder that :func:`save_emulator` made of a published network. A file
            that is named itself together with its variables is trusted by that.
        changes: settings of :class:`EmulatorConfig` to use instead of the saved ones, not for TorchScript.

    Raises:
        UsageError: ``variables`` is missing, unknown or not wanted, or ``changes`` for a TorchScript file.
        SubgridError: missing, damaged, foreign or untrusted files, or a network that does not work as described.
    """
    path = Path(path)
    if path.is_file():
        _refuse_changes(path, changes)
        return load_published(path, variables, grid, time_step or TIME_STEP)
    folder = _emulator_folder(path)
    if variables or grid is not None or time_step is not None:
        raise UsageError(f"{path} says itself what it reads: variables, grid and time step are for TorchScript files")
    description = require_format(read_json(folder / DESCRIPTION), EMULATOR, folder / DESCRIPTION)
    if "blend" in description:
        return _load_blend(folder, description, changes)
    if "published" not in description:
        return load_emulator(folder, **changes)
    _refuse_changes(path, changes)
    if not trust:
        raise SubgridError(
            f"{folder} holds a published network: TorchScript, which executes code as it is loaded; if you trust where "
            "it comes from, add trust=True (trust=true on the command line)"
        )
    return _load_published_folder(folder, description)


def require_emulator(path: Path | str) -> None:
    """Raise :class:`SubgridError` unless ``path`` is a file or holds an emulator; nothing is loaded."""
    if not Path(path).is_file():
        _emulator_folder(Path(path))


def trained_on(path: Path | str) -> str:
    """The store that the emulator at ``path`` says it was trained on; empty if it does not say."""
    if Path(path).is_file():
        return ""
    folder = _emulator_folder(Path(path))
    description = require_format(read_json(folder / DESCRIPTION), EMULATOR, folder / DESCRIPTION)
    metadata = description.get("metadata")
    return str(metadata.get("store", "")) if isinstance(metadata, dict) else ""


def settings_of(path: Path | str) -> dict[str, Any]:
    """How the emulator at ``path`` was trained.

    Returns:
        ``variables`` and ``recipe`` (names), ``architecture``, ``network`` and ``emulator`` (settings).

    Raises:
        SubgridError: there is none, it is damaged, or it is a published network.
    """
    emulator = load_emulator(path)
    network = emulator.network
    return {
        "variables": emulator.variables.name,
        "architecture": network.architecture,
        "network": network.hyperparameters,
        "emulator": emulator.config.to_dict(),
        "recipe": str(emulator.metadata.get("recipe", "standard")),
    }


def load_for_store(
    path: Path | str, store: ColumnStore, variables: str = "", trust: bool = False, **changes: Any
) -> ColumnEmulator:
    """:func:`load` for the columns of ``store``: a TorchScript file takes its grid, its step and ClimSim's fills."""
    if not Path(path).is_file():
        emulator = load(path, variables, trust=trust, **changes)
    else:
        emulator = load(path, variables, store.grid.vertical, store.spec.time_step, **changes)
    if isinstance(emulator, PublishedEmulator):
        emulator.variables = with_fill(emulator.variables, store.variables)
    return emulator


def _refuse_changes(path: Path, changes: dict[str, Any]) -> None:
    if changes:
        raise UsageError(
            f"{path} is a published network, which has no settings {', '.join(changes)}: it does what it does"
        )


def _load_published_folder(folder: Path, description: dict[str, Any]) -> PublishedEmulator:
    try:
        held = description["vertical_grid"]
        grid = None if held is None else VerticalGrid.from_dict(held)
        named, time_step = str(description["variables_named"]), float(description["time_step"])
        metadata = dict(description["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise SubgridError(f"{folder / DESCRIPTION} is damaged ({error!r})") from error
    # the name is ours, never the description's: it could lead out of the folder
    emulator = load_published(folder / PUBLISHED, named, grid, time_step)
    emulator.metadata = metadata
    return emulator


def _emulator_folder(folder: Path) -> Path:
    """The folder of the description: ``folder`` or its ``emulator``."""
    if not (folder / DESCRIPTION).exists() and (folder / "emulator" / DESCRIPTION).exists():
        folder = folder / "emulator"
    if not (folder / DESCRIPTION).exists():
        raise SubgridError(f"{folder} holds no emulator ({DESCRIPTION} is missing): train one with `subgrid train`")
    return folder


def load_emulator(folder: Path | str, **changes: Any) -> Emulator:
    """Read an emulator that was trained here, in evaluation mode on the CPU; see :func:`load` for any.

    Args:
        folder: an emulator folder, or a run folder that holds one in ``emulator/``.
        changes: settings of :class:`EmulatorConfig` to use instead of the saved ones (bounds and constraints may
            change after training; features and normalisation may not).

    Raises:
        SubgridError: missing, damaged or foreign files, weights that do not fit, or another format version.
    """
    folder = _emulator_folder(Path(folder))
    description = require_format(read_json(folder / DESCRIPTION), EMULATOR, folder / DESCRIPTION)
    if "published" in description:
        raise SubgridError(f"{folder} holds a published network, which cannot be trained: train an emulator of its own")
    if "blend" in description:
        raise SubgridError(
            f"{folder} holds a blend, which is neither trained nor blended again: name its members' runs"
        )
    emulator = _rebuild(description, folder, changes)
    _load_weights(emulator, folder / WEIGHTS)
    emulator.mask_outputs()
    return emulator.eval()


def _rebuild(description: dict[str, Any], folder: Path, changes: dict[str, Any]) -> Emulator:
    try:
        saved = EmulatorConfig.from_dict(description["emulator"])
        config = EmulatorConfig.from_dict({**saved.to_dict(), **changes})
        if any(getattr(config, name) != getattr(saved, name) for name in FIXED):
            held = ", ".join(f"{name}={getattr(saved, name)}" for name in FIXED)
            raise SubgridError(f"{folder} was trained with {held}: these cannot change after training")
        _require_masks(saved, config, folder)
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


def _require_masks(saved: EmulatorConfig, config: EmulatorConfig, folder: Path) -> None:
    """Refuse to lift a mask: what lies below it was never learned."""
    lifted = [word for word in saved.mask if word not in config.mask]
    if lifted or (saved.mask and config.mask_to != saved.mask_to):
        raise SubgridError(
            f"{folder} was trained with emulator.mask=[{','.join(saved.mask)}] to {saved.mask_to}: masks can be added, "
            "and not lifted or changed"
        )


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
