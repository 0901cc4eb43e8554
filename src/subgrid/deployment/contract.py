"""The contract of a bundle: every number that goes in and comes out, what is inside, and where it came from."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, cast

from subgrid.base.errors import SubgridError
from subgrid.base.formats import BUNDLE, mark
from subgrid.base.hub import sha256
from subgrid.base.provenance import versions
from subgrid.columns.variables import Variable, channel_labels
from subgrid.deployment.views import HostView
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.constraints import Constraint

CONTRACT, MODEL = "contract.json", "model.pt"
#: What follows the outputs of an emulator with confidence.
CONFIDENCE = "expected_error_of"


def describe(
    view: HostView, trained: EmulatorConfig, name: str, target: str, pcols: int, provenance: dict[str, Any]
) -> dict[str, Any]:
    """The contract, as it lies inside the model.

    Args:
        view: what is exported.
        trained: settings of its emulator as it was trained.
        name: of the bundle, a Fortran identifier.
        target: ``torchscript``, ``ftorch``, ``e3sm`` or ``cam``.
        pcols: most columns of a chunk of the host.
        provenance: of the run.
    """
    emulator, levels = view.emulator, view.levels
    outputs = [*_table(view.outputs, levels), *_confidences(view)]
    held = {v.name for v in (*view.inputs, *view.outputs)}
    own = (*emulator.variables.inputs, *emulator.variables.targets)
    return {
        **mark(BUNDLE),
        "name": name,
        "target": target,
        "n_in": view.n_in,
        "n_out": view.n_out,
        "dtype": "float32",
        "layout": "(ncol, n_in) -> (ncol, n_out), C order; in Fortran (n_in, ncol) -> (n_out, ncol)",
        "pcols": pcols,
        "inputs": channel_labels(view.inputs, levels),
        "outputs": [label for one in outputs for label in _labels(one)],
        "variables": {"inputs": _table(view.inputs, levels), "outputs": outputs},
        "formed_inside": [v.name for v in own if v.name not in held],
        "variable_set": emulator.variables.name,
        "levels": levels,
        "level_order": "0 = top",
        "vertical_grid": emulator.grid.to_dict() if emulator.has_grid else None,
        "time_step_s": emulator.time_step,
        "answer": emulator.answer,
        "normalisation": "inside: the host scales nothing",
        "pruning": _pruning(trained, emulator.config),
        "constraints": _constraints(emulator),
        "zero_rows": "a row of zeros is answered with zeros",
        "versions": versions(),
        "provenance": provenance,
    }


def of_model(file: Path) -> dict[str, Any]:
    """What tells one model file from another: name, bytes, CRC-32 (which Fortran compares) and SHA-256."""
    content = file.read_bytes()
    return {"file": file.name, "bytes": len(content), "crc32": zlib.crc32(content), "sha256": sha256(file)}


def same_contract(inside: dict[str, Any], beside: dict[str, Any], path: Path) -> None:
    """Raise :class:`SubgridError` unless the contract inside a model is the one beside it."""
    differing = sorted(key for key in {*inside, *beside} - {"model"} if inside.get(key) != beside.get(key))
    if differing:
        raise SubgridError(
            f"{path}: the contract inside the model is another one (it differs in {', '.join(differing)}): export again"
        )


def _table(variables: tuple[Variable, ...], levels: int) -> list[dict[str, Any]]:
    """One entry a variable: name, units, meaning, kind, first number (from 1) and how many."""
    found, first = [], 1
    for variable in variables:
        width = variable.width(levels)
        found.append(
            {
                "name": variable.name,
                "units": variable.units,
                "long_name": variable.long_name,
                "quantity": variable.quantity,
                "kind": variable.kind,
                "first": first,
                "width": width,
            }
        )
        first += width
    return found


def _confidences(view: HostView) -> list[dict[str, Any]]:
    """Entries of what follows the outputs of an emulator with confidence."""
    if not view.confident:
        return []
    first = sum(variable.width(view.levels) for variable in view.outputs) + 1
    told = {"units": "1", "quantity": "", "long_name": "expected error of the normalised output"}
    found = []
    for one in _table(view.emulator.variables.targets, view.levels):
        found.append({**one, **told, "name": f"{CONFIDENCE}_{one['name']}", "first": first})
        first += one["width"]
    return found


def _labels(entry: dict[str, Any]) -> list[str]:
    return Variable(entry["name"], entry["kind"], entry["units"]).channels(entry["width"])


def _pruning(trained: EmulatorConfig, deployed: EmulatorConfig) -> dict[str, Any]:
    """On how many levels from the top there are no cloud inputs, and no tendencies of waters and winds."""
    found = {}
    for name, config in (("trained", trained), ("deployed", deployed)):
        official = config.normalization == "official"
        found[name] = {
            "inputs": config.prune_inputs if official else 0,
            "outputs": max(config.prune_outputs if official else 0, config.top),
            "mask": list(config.mask),
        }
    return found


def _constraints(emulator: ColumnEmulator) -> list[dict[str, str]]:
    """What acts on the answer inside, in order: by the name of its counter, and in a sentence."""
    config, found = emulator.config, []
    if config.clip_inputs:
        found.append(("clip_inputs", f"normalised inputs kept within training, widened by {config.clip_margin:g}"))
    if config.clip_outputs:
        found.append(("clip_outputs", f"outputs kept within training, widened by {config.clip_margin:g}"))
    for one in cast(list[Constraint], list(getattr(emulator, "constraints", []))):
        found.append((one.counter, one.does))
    return [{"name": name, "what": what} for name, what in found]
