"""The small matrix: six architectures under five recipes, three seeds, on a SPEEDY store; and the page of its results.

Each cell leaves a small file of scores, which is committed: a fresh machine goes on where another one stopped.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from subgrid.base.files import make_folder, read_json
from subgrid.base.formats import EVALUATION, SCORES, read_record, write_record
from subgrid.base.provenance import versions
from subgrid.columns.store import ColumnStore, open_store
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.files import load_emulator
from subgrid.emulator.flat import FlatEmulator
from subgrid.networks.flops import count_flops
from subgrid.training.fit import TrainConfig, decisive
from subgrid.workflows.results_page import SURENESS, write_page
from subgrid.workflows.sweep import Cell, SweepConfig, run_sweep

logger = logging.getLogger("subgrid")
ARCHITECTURES = ("unet", "squeezeformer", "res_lstm", "pao", "convnext", "encdec_lstm")
RECIPES = ("standard", "confidence", "difference", "multirepresentation", "expanded")
SEEDS = (7, 43, 1024)
#: What a cell of about two minutes on two cores takes.
RECIPE_SETTINGS = {"epochs": 2, "batch_size": 2048}
FOLDER, PAGE = "results", "results.md"
#: Columns of a call that is timed, calls, and the side of the matrices whose product is timed beside each.
COLUMNS, CALLS, SIDE = 2048, 60, 512
#: Memory that a cell may take, bytes.
CELL_BYTES = 4 * 2**30


def plan(store: Path | str) -> list[Cell]:
    """All cells, seed by seed, so that a matrix that is cut has something of every pair."""
    found = []
    for seed in SEEDS:
        for architecture in ARCHITECTURES:
            for recipe in RECIPES:
                train = TrainConfig(
                    data=str(store),
                    architecture=architecture,
                    recipe=recipe,
                    recipe_settings=dict(RECIPE_SETTINGS),
                    seed=seed,
                    perturbed=False,
                )
                found.append(Cell(f"{architecture}-{recipe}-s{seed}", train))
    return found


def matrix(store: Path, out: Path, docs: Path | None, cells: list[Cell] | None = None) -> Path:
    """Run the cells that have no scores yet, and write the page; returns the page.

    Args:
        store: a SPEEDY store; not opened where every cell has its scores.
        out: folder of the runs.
        docs: receives ``results/<cell>.json`` and ``results.md`` (None: into ``out``).
        cells: to run; None: :func:`plan`.

    Raises:
        SubgridError: the store cannot be used, or ``out`` holds runs with other settings.
    """
    docs = docs or out
    folder = make_folder(docs / FOLDER)
    every = plan(store) if cells is None else cells
    missing = [cell for cell in every if not _has_scores(folder, cell)]
    if missing:
        held = open_store(store)

        def keep(cell: Cell) -> None:
            write_record(folder / f"{cell.name}.json", SCORES, cell_scores(cell, out / cell.name, held))
            write_page(folder, docs / PAGE, len(every))

        run_sweep(SweepConfig(str(out), workers=side_by_side()), missing, keep)
    return write_page(folder, docs / PAGE, len(every))


def side_by_side() -> int:
    """Cells at a time, as cores and memory allow: small networks gain nothing from a second thread."""
    return max(1, min(os.cpu_count() or 1, psutil.virtual_memory().available // CELL_BYTES))


def _settings(train: dict[str, Any]) -> dict[str, Any]:
    """What decides a cell's result, but the place of the store; a newer setting had its default."""
    return {k: v for k, v in decisive(json.loads(json.dumps(train))).items() if k != "data"}


def _has_scores(folder: Path, cell: Cell) -> bool:
    """Whether a file of scores is there, of the very settings, with every score that the page tells.

    A setting that the file does not know had its default.
    """
    path = folder / f"{cell.name}.json"
    if not path.exists():
        return False
    held = read_record(path, SCORES)
    ranks = held["rank_correlation"]
    same = _settings(held["train"]) == _settings(asdict(cell.train))
    return same and (ranks is None or set(SURENESS) <= set(ranks))


def cell_scores(cell: Cell, run: Path, store: ColumnStore) -> dict[str, Any]:
    """What is kept of a finished cell: R2 per variable beside ridge's, size, speed, and what a confidence is worth."""
    scores = read_record(run / "evaluation" / "scores.json", EVALUATION)
    metrics = read_json(run / "metrics.json")
    emulator = load_emulator(run)
    return {
        **cell.about(),
        "train": _settings(asdict(cell.train)),
        "split": scores["split"],
        "samples": {"train": store["train"].samples, scores["split"]: scores["samples"]},
        "r2": {name: _rounded(v["r2"]) for name, v in scores["models"]["emulator"].items()},
        "ridge_r2": {name: _rounded(v["r2"]) for name, v in scores["models"]["ridge"].items()},
        "parameters": metrics["parameters"],
        "training_seconds": metrics["seconds"],
        **speed(emulator, store),
        "rank_correlation": scores["confidence"] and scores["confidence"]["rank_correlation"],
        "machine": platform.machine(),
        "versions": versions(),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def speed(emulator: Emulator, store: ColumnStore) -> dict[str, float]:
    """How fast an emulator is on one thread, raw SI in and out, in calls of 2,048 columns of the test split.

    Returns:
        ``columns_per_second``; ``matmul_share``: the network's operations (:func:`count_flops`) per second, as a share
        of a matrix product's in the same minute. The fastest call counts, and the fastest product: others slow a call
        down on a shared machine, and nothing makes it faster than it is.
    """
    split = store["test"]
    x = torch.from_numpy(np.resize(split.read_variables(emulator.variables.inputs, 0), (COLUMNS, _width(emulator))))
    flat, square = FlatEmulator(emulator).eval(), torch.randn(SIDE, SIDE)
    work = {"call": lambda: flat(x), "product": lambda: square @ square}
    walls: dict[str, list[float]] = {name: [] for name in work}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(CALLS):
                for name, one in work.items():
                    started = time.perf_counter()
                    one()
                    walls[name].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    found = COLUMNS / min(walls["call"])
    peak = 2.0 * SIDE**3 / min(walls["product"])
    flops = count_flops(emulator.network, emulator.network.shape)
    return {"columns_per_second": round(found), "matmul_share": round(found * flops / peak, 4)}


def _width(emulator: Emulator) -> int:
    return FlatEmulator(emulator).n_in
