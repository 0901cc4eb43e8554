"""What a folder of results holds: everything that the page can tell, read from disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from subgrid.base.errors import SubgridError
from subgrid.base.files import read_json
from subgrid.base.formats import BUNDLE, COUPLED, EVALUATION, RUN, read_record
from subgrid.base.places import Place
from subgrid.base.places import place as place_of
from subgrid.columns.store import ColumnStore, open_store
from subgrid.evaluation.seeds import seed_bands
from subgrid.hosts.climate import open_climate
from subgrid.report.geography import Land, land_of

logger = logging.getLogger("subgrid")
Record = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Results of one folder; what is absent is None.

    Args:
        folder: where they lie.
        store: summary of the column store.
        land: where its land is.
        config, training, provenance: of the training run.
        scores, sections: of the offline evaluation.
        literature: zonal means and bias by rain of its literature scores.
        seeds: literature scores of this and of other seeds, by level; see :func:`subgrid.evaluation.seeds.seed_bands`.
        coupled, comparison: of the coupled run.
        export: report of the TorchScript export.
        summary: of the whole demo.
    """

    folder: Path
    store: Record | None = None
    land: Land | None = None
    config: Record | None = None
    training: Record | None = None
    provenance: Record | None = None
    scores: Record | None = None
    sections: xr.Dataset | None = None
    literature: xr.Dataset | None = None
    seeds: Record | None = None
    coupled: Record | None = None
    comparison: xr.Dataset | None = None
    export: Record | None = None
    summary: Record | None = None

    @property
    def empty(self) -> bool:
        """Nothing to report: a description of a run without any of its results does not count."""
        held = (self.training, self.scores, self.coupled, self.export, self.store, self.summary)
        return all(part is None for part in held)


def read_results(folder: Path, seeds: Sequence[Path] = ()) -> Results:
    """Everything that ``folder`` holds: a demo folder, or the folder of one run, evaluation, coupled run or export.

    Args:
        folder: to read.
        seeds: folders of runs or evaluations of the same network from other seeds.

    Raises:
        SubgridError: a file is damaged, there is nothing to report, or a seed's scores do not fit.
    """
    if not folder.is_dir():
        raise SubgridError(f"{folder} is not a folder: nothing to report; name a folder of results")
    run = _place(folder, "run", "metrics.json", "losses")
    evaluation = _place(folder, "evaluation", "scores.json", "models")
    coupled = _place(folder, "coupled", "metrics.json", "requested_days")
    exported = _place(folder, "export", "report.json", "max_relative_difference")
    summary = _place(folder, ".", "summary.json", "stages")
    config = _optional(run / "config.json", RUN) if run else None
    scores = read_record(evaluation / "scores.json", EVALUATION) if evaluation else None
    couple_config = _optional(coupled / "config.json", COUPLED) if coupled else None
    store = _store(folder, config, scores, couple_config)
    results = Results(
        folder=folder,
        store=store.info() if store else None,
        land=land_of(store) if store else None,
        config=config,
        training=read_json(run / "metrics.json") if run else None,
        provenance=_optional(run / "provenance.json") if run else None,
        scores=scores,
        sections=_dataset(evaluation / "sections") if evaluation else None,
        literature=_dataset(evaluation / "climsim") if evaluation else None,
        seeds=_bands(evaluation, seeds) if seeds else None,
        coupled=read_json(coupled / "metrics.json") if coupled else None,
        comparison=_dataset(coupled / "comparison") if coupled else None,
        export=read_record(exported / "report.json", BUNDLE) if exported else None,
        summary=read_json(summary / "summary.json") if summary else None,
    )
    if results.empty:
        raise SubgridError(
            f"{folder} holds nothing to report: no run, evaluation, coupled run, export or store is finished there"
        )
    return results


def _place(folder: Path, name: str, file: str, key: str) -> Path | None:
    """``folder/name`` or ``folder`` itself, whichever has ``file`` with the entry ``key``."""
    for place in (folder / name, folder):
        if (place / file).is_file():
            content = read_json(place / file)
            if isinstance(content, dict) and key in content:
                return place
    return None


def _bands(own: Path | None, seeds: Sequence[Path]) -> Record:
    """Bands over the evaluation ``own`` and those of the folders ``seeds``."""
    found = [own, *(_place(seed, "evaluation", "scores.json", "models") for seed in seeds)]
    missing = [str(folder) for folder, place in zip(["the folder itself", *seeds], found, strict=True) if place is None]
    if missing:
        raise SubgridError(
            f"bands over seeds need an evaluation in each folder; there is none in {', '.join(missing)}: run "
            "subgrid evaluate RUN metrics=climsim"
        )
    return seed_bands({str(place): read_record(place / "scores.json", EVALUATION) for place in found if place})


def _optional(path: Path, kind: str = "") -> Record | None:
    if not path.is_file():
        return None
    return read_record(path, kind) if kind else read_json(path)


def _dataset(path: Path) -> xr.Dataset | None:
    """A Zarr group in memory, or None where there is none."""
    if not (path / "zarr.json").is_file():
        return None
    try:
        return open_climate(path).load()
    except (OSError, ValueError, KeyError) as error:
        raise SubgridError(f"{path} cannot be read ({error}); make the result again") from error


def _store(folder: Path, *configs: Record | None) -> ColumnStore | None:
    """The store of the folder, else the one that a config names, if it is still there."""
    named: list[Place | str] = [str(c["data"]) for c in configs if c and c.get("data")]
    for given in (folder / "store.zarr", folder, *named):
        try:
            path = place_of(given)
            if (path / "zarr.json").is_file():
                return open_store(path)
        except SubgridError as error:
            logger.info("report: leaves out the store (%s)", error)
    return None
