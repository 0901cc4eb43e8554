"""The bundle: an emulator as a Fortran climate model takes it, with the proof that it computes the same numbers."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import (
    built_beside,
    make_folder,
    only_writer,
    read_json,
    write_file,
    write_json,
    write_text,
)
from subgrid.base.formats import BUNDLE, require_format, write_record
from subgrid.base.hub import sha256
from subgrid.base.logs import log_file
from subgrid.columns.store import ColumnStore, open_store
from subgrid.deployment.card import model_card, readme
from subgrid.deployment.contract import CONTRACT, MODEL, describe, of_model
from subgrid.deployment.fortran import as_name, render, require_name
from subgrid.deployment.models import cam_files, e3sm_files
from subgrid.deployment.runs import require_finished
from subgrid.deployment.torchscript import BATCHES, differences, script
from subgrid.deployment.vectors import write_vectors
from subgrid.deployment.views import VIEWS, HostView
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.files import load_for_store, save_emulator

#: Splits on whose columns an export is checked, the first one that the store has.
SPLITS = ("test", "scoring", "validation", "train")
#: Largest difference, in spreads of each output, allowed at another batch size than the traced one.
TOLERANCE = 1e-5
TARGETS = tuple(VIEWS)
SUMS, REPORT, WEIGHTS, VECTORS = "SHA256SUMS", "report.json", "emulator", "test"
#: Most columns of the test vectors that stand for the whole grid.
MOST_COLUMNS = 4096
ROUNDS = 15


@dataclass(frozen=True)
class ExportConfig:
    """What is exported, and for whom.

    Args:
        data: a store on whose test columns the export is checked (else on those of scoring, validation or train).
        target: ``torchscript`` (no Fortran), ``ftorch`` (any Fortran model), ``e3sm`` (the order of E3SM's ClimSim
            coupling) or ``cam``.
        name: of the bundle and its Fortran module; empty: made of the run's.
        pcols: most columns of a chunk of the host.
        online: a coupled run of this emulator, for the model card; empty: one that lies in the run folder.
        licence: of the weights, for the model card.
        variables: what a TorchScript file reads; empty for folders.
        trust: load the TorchScript file of a folder that holds a published network.
        constraints: settings of the emulator to change (bounds and constraints), such as ``{"top": 15}``.

    Raises:
        UsageError: unknown target, or a name that Fortran does not allow.
    """

    data: str
    target: str = "ftorch"
    name: str = ""
    pcols: int = 16
    online: str = ""
    licence: str = ""
    variables: str = ""
    trust: bool = False
    constraints: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise unknown_name("--target", self.target, TARGETS)
        if self.name:
            require_name(self.name)
        if not 1 <= self.pcols <= MOST_COLUMNS:
            raise UsageError(f"pcols={self.pcols} must lie in [1, {MOST_COLUMNS}]")


def export(run: Path | str, out: Path | str, config: ExportConfig) -> dict[str, Any]:
    """Write a bundle; it gets its name once everything in it is made and checked.

    ``model.pt`` with ``contract.json`` (beside and inside), ``emulator`` (weights and settings, from which it can be
    exported again), ``test`` (raw vectors), ``MODEL_CARD.md``, ``README.md``, ``report.json`` (measured differences),
    ``SHA256SUMS``; for Fortran targets a module, a driver and build files, and what the target's model needs.

    Args:
        run: run folder, emulator folder, blend, or a published network's TorchScript file.
        out: the bundle's folder: new, empty, or an older bundle, which is replaced.
        config: settings.

    Returns:
        The report.

    Raises:
        UsageError: the target's model does not hand over what the emulator reads.
        SubgridError: the run is not finished; the store has other levels; an operation cannot be scripted; the
            scripted model differs from the emulator: at all at the same batch size, or by more than 1e-5 of an output's
            spread at another one; or ``out`` holds something else.
    """
    run, out = Path(run), Path(out)
    require_finished(run)
    _require_room(out)
    store = open_store(config.data)
    view, trained = _view(run, store, config)
    with only_writer(out), built_beside(out) as built:
        with log_file(built, "export"):
            report = _write(built, run, store, view, trained, config)
        write_text(built / SUMS, checksum_lines(built))
    return report


def _view(run: Path, store: ColumnStore, config: ExportConfig) -> tuple[HostView, EmulatorConfig]:
    """The emulator as the target's model sees it, and its settings as trained."""
    as_trained = load_for_store(run, store, config.variables, config.trust)
    emulator = as_trained
    if config.constraints:
        emulator = load_for_store(run, store, config.variables, config.trust, **config.constraints)
    if store.grid.levels != emulator.levels:
        raise SubgridError(
            f"{config.data} has {store.grid.levels} levels, the emulator {emulator.levels}: check it on a store with "
            "its own levels"
        )
    return VIEWS[config.target](emulator), as_trained.config


def _write(
    built: Path, run: Path, store: ColumnStore, view: HostView, trained: EmulatorConfig, config: ExportConfig
) -> dict[str, Any]:
    """Everything of the bundle but its checksums."""
    split = store[next((name for name in SPLITS if name in store.split_names), SPLITS[0])]
    columns = view.sample(split, min(max(store.grid.columns, 3 * max(BATCHES)), MOST_COLUMNS))
    sample, grid = columns[: 3 * max(BATCHES)], columns[: max(store.grid.columns, max(BATCHES))]
    spread = _scale(view, sample, view.spread(split))
    save_emulator(view.emulator, built / WEIGHTS)
    name = config.name or as_name(run.resolve().stem)
    inside = describe(view, trained, name, config.target, config.pcols, _origin(run, built / WEIGHTS))
    module = _model(built / MODEL, view, sample, inside)
    report = {**_differences(module, view, sample, spread), "split": split.name, "target": config.target}
    contract = {**inside, "model": of_model(built / MODEL)}
    write_json(built / CONTRACT, contract)
    low, high = (bound.astype(np.float32) for bound in view.ranges(split))
    write_vectors(built / VECTORS, module, grid, low, high, spread, config.pcols)
    report |= {key: contract["model"][key] for key in ("file", "bytes")}
    report |= {key: contract[key] for key in ("name", "n_in", "n_out")}
    report["milliseconds"] = _timed(module, sample, config.pcols)
    write_record(built / REPORT, BUNDLE, report)
    for path, text in _texts(run, contract, report, config).items():
        write_text(make_folder((built / path).parent) / Path(path).name, text)
    return report


def _texts(run: Path, contract: dict[str, Any], report: dict[str, Any], config: ExportConfig) -> dict[str, str]:
    """Card, readme, and what the target's model needs: relative path -> text."""
    found = {
        "MODEL_CARD.md": model_card(run, contract, report, config.online, config.licence),
        "README.md": readme(contract),
    }
    if config.target != "torchscript":
        found |= render(contract)
    of_target = {"e3sm": e3sm_files, "cam": cam_files}
    return found | (of_target[config.target](contract) if config.target in of_target else {})


def _model(file: Path, view: HostView, sample: NDArray[np.float32], contract: dict[str, Any]) -> Any:
    """Script the view, write it with the contract inside, and load what was written."""
    module = script(view, torch.from_numpy(sample[: max(BATCHES)]))
    made = io.BytesIO()  # on a full disk torch itself ends the process
    torch.jit.save(module, made, _extra_files={CONTRACT: json.dumps(contract)})
    write_file(file, lambda beside: beside.write_bytes(made.getbuffer()))
    # TorchScript executes on loading: this is the file that was just written.
    return torch.jit.load(str(file), map_location="cpu")


def _scale(view: HostView, sample: NDArray[np.float32], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a difference of each output is measured in: its spread, or, where it has none, its largest answer."""
    with torch.inference_mode():
        largest = view.eval()(torch.from_numpy(sample))[0].abs().amax(dim=0).double().numpy()
    return np.where(spread > 0, spread, largest)


def _differences(
    module: Any, view: HostView, sample: NDArray[np.float32], spread: NDArray[np.float64]
) -> dict[str, Any]:
    """Differences between the model and the emulator; :class:`SubgridError` if they are too large."""
    found = differences(module, view, sample, spread)
    if found["same_batch"] > 0 or max(found.values()) > TOLERANCE:
        raise SubgridError(
            f"the scripted model differs from the emulator by {found} of an output's spread; allowed are 0 at the "
            f"same batch size and {TOLERANCE:g} otherwise"
        )
    return {
        "max_relative_difference": max(found.values()),
        "same_batch": found.pop("same_batch"),
        "batches": found,
    }


def _timed(module: Any, sample: NDArray[np.float32], pcols: int) -> dict[str, float]:
    """Median milliseconds of a call of ``pcols`` columns and of the largest batch, on one thread."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    try:
        for size in sorted({pcols, max(BATCHES)}):
            x = torch.from_numpy(np.resize(sample, (size, sample.shape[1])))
            times = []
            with torch.inference_mode():
                for _ in range(ROUNDS):
                    start = perf_counter()
                    module(x)
                    times.append(perf_counter() - start)
            found[str(size)] = round(1e3 * median(times[3:]), 3)
    finally:
        torch.set_num_threads(threads)
    return found


def checksum_lines(folder: Path) -> str:
    """Checksums of all files of a folder, as ``sha256sum`` writes and checks them."""
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return "".join(f"{sha256(folder / path)}  {path}\n" for path in files)


def _origin(run: Path, weights: Path) -> dict[str, Any]:
    """The run's own settings and provenance, where it has them, and checksums of the weights that were exported."""
    names = {"settings": "config.json", "made_with": "provenance.json"}
    held = {key: read_json(run / name) for key, name in names.items() if run.is_dir() and (run / name).is_file()}
    files = sorted(path for path in weights.rglob("*") if path.is_file())
    sums = {path.relative_to(weights.parent).as_posix(): sha256(path) for path in files}
    return {"run": run.resolve().name, **held, "checksums": sums}


def _require_room(out: Path) -> None:
    """Refuse to write where something else than a bundle lies."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / CONTRACT).is_file():
        raise SubgridError(f"{out} is there and holds no bundle: choose another --out, or remove it")
    require_format(read_json(out / CONTRACT), BUNDLE, out / CONTRACT)
