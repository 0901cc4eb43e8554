"""ClimSim from the Hugging Face Hub: what is asked for, how large it is, and a download that a kill does not spoil."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import make_folder, only_writer, read_json, room, writable, write_json
from subgrid.base.hub import quiet_library
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.base.threads import in_threads, require_workers
from subgrid.columns.climsim.files import SPLITS, chosen_splits
from subgrid.columns.climsim.hub import DATASETS, MONTHS, Hub, RemoteFile
from subgrid.columns.climsim.names import months as months_of
from subgrid.columns.climsim.names import parse_name, step_number

logger = logging.getLogger("subgrid")
#: Bytes beyond which a person should agree first.
ASK_ABOVE = 50 * 10**9
#: Says what a folder of downloads is of.
SOURCE = "source.json"
#: Where files are until they are whole and checked.
STAGING = ".downloading"
LICENCE = "CC BY 4.0: ClimSim (Yu et al. 2023), https://huggingface.co/LEAP"


@dataclass(frozen=True)
class DownloadConfig:
    """What to download.

    Args:
        config: in :data:`~subgrid.columns.climsim.hub.DATASETS`.
        months: as :func:`~subgrid.columns.climsim.names.months` takes them; empty: those of ``split``, else all.
        split: names of published splits, with commas: their steps alone, instead of ``stride``.
        stride: every so many steps, counted from the first step of the whole data set.
        history: also so many steps before each that is chosen (two for the variable sets v3 to v6).
        kinds: of files, with commas; empty: both of the configuration.
        endpoint: address of the hub; empty: that of ``HF_ENDPOINT``, else the public one.

    Raises:
        UsageError: an unknown name, with the nearest ones, or a number out of range.
    """

    config: str
    months: str = ""
    split: str = ""
    stride: int = 1
    history: int = 0
    kinds: str = ""
    endpoint: str = ""

    def __post_init__(self) -> None:
        if self.config not in DATASETS:
            raise unknown_name("configuration of ClimSim", self.config, DATASETS)
        if self.stride < 1 or self.history < 0:
            raise UsageError(f"stride={self.stride} must be positive, and history={self.history} not negative")
        if self.split and self.stride != 1:
            raise UsageError("a published split has its own stride: give --split or --stride, not both")
        if self.split:
            chosen_splits(self.split)
        if self.months:
            months_of(self.months)
        for kind in self.chosen_kinds:
            if kind not in DATASETS[self.config].kinds:
                there = " and ".join(DATASETS[self.config].kinds)
                raise UsageError(f"{self.config} has no files of kind '{kind}': it has {there}")

    @property
    def chosen_kinds(self) -> tuple[str, ...]:
        """Kinds of files, in order and each once."""
        asked = [kind.strip() for kind in self.kinds.split(",")] if self.kinds else DATASETS[self.config].kinds
        return tuple(dict.fromkeys(asked))

    def wants(self, step: int) -> bool:
        """Whether the step of this number is chosen, or comes at most ``history`` steps before one that is."""
        if self.split:
            ranges = [SPLITS[name].steps for name in chosen_splits(self.split)]
            return any(step + k in steps for steps in ranges for k in range(self.history + 1))
        return any((step + k) % self.stride == 0 for k in range(self.history + 1))


@dataclass(frozen=True)
class DownloadPlan:
    """What is to be downloaded, and what of it is there.

    Args:
        config: what was asked for.
        out: the folder.
        hub: where it comes from.
        files: every file, the grid first, then by month and name.
        held: of these, paths of the ones that are there with the right size.
        unpaired: names of files that are left out because their other half is not on the hub.
    """

    config: DownloadConfig
    out: Path
    hub: Hub = field(repr=False)
    files: tuple[RemoteFile, ...] = field(repr=False)
    held: frozenset[str] = field(repr=False)
    unpaired: tuple[str, ...] = field(repr=False, default=())

    @property
    def missing(self) -> list[RemoteFile]:
        """The files that are still to be fetched."""
        return [file for file in self.files if file.path not in self.held]

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """Of the files that are still to be fetched."""
        return sum(file.size for file in self.missing)

    def summary(self) -> dict[str, Any]:
        """JSON-able form: counts and bytes, also by month."""
        by_month: dict[str, dict[str, int]] = {}
        for file in self.files:
            month = by_month.setdefault(_month_of(file), {"files": 0, "bytes": 0})
            month["files"] += 1
            month["bytes"] += file.size
        return {
            "out": str(self.out),
            "repository": self.hub.repository,
            "commit": self.hub.commit,
            "files": len(self.files),
            "bytes": self.total_bytes,
            "held_files": len(self.held),
            "missing_files": len(self.missing),
            "missing_bytes": self.missing_bytes,
            "unpaired": list(self.unpaired),
            "months": by_month,
        }


def plan_download(config: DownloadConfig, out: Path | str, workers: int = 4) -> DownloadPlan:
    """List the chosen months on the hub and choose their files; writes nothing.

    Args:
        config: what to download.
        out: the folder that it is to go to.
        workers: months listed at a time.

    Raises:
        UsageError: a month that the hub does not have, or ``workers`` is not positive.
        SubgridError: the hub cannot be reached, there is nothing to download, or ``out`` holds another configuration.
    """
    require_workers(workers)
    out = Path(out)
    _require_same_source(out, config)
    found: dict[str, list[RemoteFile]] = {}

    def one(month: str) -> None:
        found[month] = hub.month(month)

    with quiet_library():
        hub = Hub(DATASETS[config.config].repository, config.endpoint)
        months = _chosen_months(config, hub)
        with Progress("list", total=len(months), unit="months") as bar:
            in_threads(one, months, workers, lambda: bar.update(1))
        grids = hub.grids()
    chosen, unpaired = _chosen_files(config, [file for month in months for file in found[month]])
    if not chosen:
        raise SubgridError(f"{hub.repository} has no file {' or '.join(config.chosen_kinds)} of what is asked for")
    if not grids:
        logger.warning("%s has no grid file at its root: give one to the conversion (--grid)", hub.repository)
    files = (*grids, *chosen)
    held = frozenset(file.path for file in files if _holds(out / file.path, file))
    return DownloadPlan(config, out, hub, files, held, tuple(unpaired))


def download(plan: DownloadPlan, workers: int = 4) -> dict[str, Any]:
    """Fetch what is missing of a plan: each file is checked, then renamed into place; see the module's page.

    Returns:
        :meth:`DownloadPlan.summary` with ``fetched_files`` and ``fetched_bytes``.

    Raises:
        SubgridError: the disk has too little room (before anything is fetched), a file cannot be fetched or is not
            what the hub lists, or another process works on the folder. What was fetched stays.
        UsageError: ``workers`` is not positive.
    """
    _require_room(plan)
    with only_writer(plan.out):
        make_folder(plan.out)
        _require_same_source(plan.out, plan.config)
        with log_file(plan.out, f"download {plan.config.config}"):
            _note_source(plan)
            done = _fetch_all(plan, workers)
    return {**plan.summary(), "fetched_files": len(done), "fetched_bytes": sum(done.values())}


def _fetch_all(plan: DownloadPlan, workers: int) -> dict[str, int]:
    """Fetch, check and rename; returns the bytes of each file by its path."""
    staging = plan.out / STAGING
    done: dict[str, int] = {}
    lock = threading.Lock()

    def one(file: RemoteFile) -> None:
        target = plan.out / file.path
        with room(target):
            fetched = plan.hub.fetch(file, staging)
            with writable(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                fetched.replace(target)
        with lock:
            done[file.path] = file.size

    missing = plan.missing
    with quiet_library(), Progress("download", len(plan.files), "files", len(plan.held)) as bar:
        in_threads(one, missing, workers, lambda: bar.update(1, f"{sum(done.values()) / 1e9:.3g} GB"))
    shutil.rmtree(staging, ignore_errors=True)
    return done


def _chosen_months(config: DownloadConfig, hub: Hub) -> list[str]:
    """The months to list: those asked for, which must exist, else those of the splits, else all."""
    there = hub.months()
    if not there:
        raise SubgridError(f"{hub.repository} has no months (folders {MONTHS}/YYYY-MM)")
    if config.months:
        asked = months_of(config.months)
        absent = [month for month in asked if month not in there]
        if absent:
            raise UsageError(
                f"{hub.repository} has no month {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}: "
                f"it has {there[0]} to {there[-1]} ({len(there)} months)"
            )
        return asked
    return [month for month in there if not config.split or _in_splits(config, month)]


def _in_splits(config: DownloadConfig, month: str) -> bool:
    year, number = int(month[:4]), int(month[5:])
    first = step_number(year, number, 1, 0)
    after = step_number(year + number // 12, number % 12 + 1, 1, 0)
    return any(config.wants(step) for step in range(first, after))


def _chosen_files(config: DownloadConfig, files: Iterable[RemoteFile]) -> tuple[list[RemoteFile], list[str]]:
    """The files of the wanted steps and kinds, sorted, and names of those whose other half is not there."""
    by_step: dict[int, dict[str, RemoteFile]] = {}
    for file in files:
        if not file.name.startswith("E3SM-MMF."):
            continue
        kind, *time = parse_name(file.name)
        step = step_number(*time)
        if config.wants(step):
            by_step.setdefault(step, {})[kind] = file
    pair = DATASETS[config.config].kinds
    chosen, unpaired = [], []
    for _, held in sorted(by_step.items()):
        if all(kind in held for kind in pair):
            chosen += [held[kind] for kind in config.chosen_kinds]
        else:
            unpaired += [file.name for file in held.values()]
    return chosen, unpaired


def _month_of(file: RemoteFile) -> str:
    return file.path.split("/")[-2] if "/" in file.path else "grid"


def _holds(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def _require_room(plan: DownloadPlan) -> None:
    """Raise before anything is fetched if the disk is too small for what is missing."""
    there = next(folder for folder in (plan.out.absolute(), *plan.out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if plan.missing_bytes > free:
        raise SubgridError(
            f"{plan.out}: {size_words(plan.missing_bytes)} are to be downloaded, but only {size_words(free)} are free: "
            "choose another disk, fewer --months or a larger --stride"
        )


def _require_same_source(out: Path, config: DownloadConfig) -> None:
    """Raise if ``out`` holds files of another configuration: a conversion would take both for one data set."""
    if not (out / SOURCE).is_file():
        return
    held = read_json(out / SOURCE)
    if not isinstance(held, dict) or held.get("config") != config.config:
        other = held.get("config") if isinstance(held, dict) else None
        raise SubgridError(f"{out} holds ClimSim {other or '(unknown)'}, not {config.config}: choose another --out")


def _note_source(plan: DownloadPlan) -> None:
    """Say in the folder what it holds: repository, every commit and request, licence."""
    path = plan.out / SOURCE
    held = read_json(path) if path.is_file() else {"requests": []}
    request = {"commit": plan.hub.commit, "endpoint": plan.hub.endpoint, **asdict(plan.config)}
    if request not in held["requests"]:
        held["requests"].append(request)
    write_json(
        path,
        {
            "config": plan.config.config,
            "repository": plan.hub.repository,
            "licence": LICENCE,
            "requests": held["requests"],
        },
    )


def size_words(size: int) -> str:
    """``1.23 GB``: three digits and a unit of a thousand."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000.0
        units.pop(0)
    return f"{value:.3g} {units[0]}"
