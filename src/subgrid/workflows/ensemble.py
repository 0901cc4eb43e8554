"""Ensembles of coupled runs: emulators and the host's own physics from perturbed first states, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from subgrid.base.datasets import write_dataset
from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import read_json, write_file
from subgrid.base.formats import COUPLED, ENSEMBLE, read_record, write_record
from subgrid.columns.store import open_store
from subgrid.coupling.compare import DISTANCES, window
from subgrid.coupling.ensemble import FLAT, against, growth_of, means, noise_floor
from subgrid.coupling.run import OWN, CoupleConfig, couple
from subgrid.hosts.climate import open_climate
from subgrid.report.ensemble import growth, survival
from subgrid.report.style import png
from subgrid.workflows.jobs import STATES, Launch, job_state, planned, remembered, run_jobs

#: Distances that a terminal shows; the file has all.
SHOWN = (*DISTANCES, *FLAT)
CONTROL = "control"
SUMMARY, GROWTH = "ensemble.json", "growth"


@dataclass(frozen=True)
class EnsembleConfig(Launch):
    """An ensemble.

    Args:
        data: column store whose host, restarts and control are used.
        runs: run folders or emulators.
        controls: members with the host's own physics, at least 2; the noise floor is made of them.
        members: members of each run.
        perturb: noise on the first state of every member but the first of each, K.
        couple: further settings of :class:`CoupleConfig`, such as ``days``.
    """

    data: str = ""
    runs: tuple[str, ...] = ()
    controls: int = 5
    members: int = 1
    perturb: float = 0.01
    couple: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.controls < 2 or self.members < 1:
            raise UsageError(f"controls={self.controls} must be at least 2, members={self.members} at least 1")
        if self.perturb <= 0.0:
            raise UsageError(f"perturb={self.perturb} must be positive: members would be the same run")


@dataclass(frozen=True)
class Member:
    """One coupled run of an ensemble."""

    name: str
    group: str
    couple: CoupleConfig
    processes: int = 1
    rank: int = 0

    def about(self) -> dict[str, Any]:
        """What a table of members shows."""
        return {"group": self.group, "emulator": self.couple.emulator, "member": self.couple.member}

    def check(self, folder: Path) -> None:
        """Refuse a folder of other settings."""
        if (folder / "config.json").exists():
            held = {**asdict(CoupleConfig("", "")), **read_record(folder / "config.json", COUPLED)}
            wanted = json.loads(json.dumps(asdict(self.couple)))
            changed = [key for key in wanted if held.get(key) != wanted[key]]
            if changed:
                raise SubgridError(f"{folder} was begun with another {', '.join(changed)}: choose another out=")

    def work(self, folder: Path) -> None:
        """Run it, or go on; one that leaves its bounds is a result."""
        couple(self.couple, folder)

    def finished(self, folder: Path) -> bool:
        """Whether its metrics are there."""
        return (folder / "metrics.json").exists()


def plan(config: EnsembleConfig) -> list[Member]:
    """All members: controls first, then run by run.

    Raises:
        UsageError: two runs of one name, or settings of the coupled runs that cannot be.
    """
    base = CoupleConfig(emulator=OWN, data=config.data, timings=False)
    try:
        base = replace(base, **config.couple)
    except TypeError as error:
        raise UsageError(f"ensemble: {error}") from error
    plain = CoupleConfig(OWN, config.data, days=base.days, start=base.start, timings=False)
    names = {run: _name(run) for run in config.runs}
    if len(set(names.values())) < len(names):
        raise UsageError(f"ensemble: several runs are called {', '.join(sorted(set(names.values())))}: rename folders")
    found = [_member(CONTROL, plain, k, config.perturb) for k in range(config.controls)]
    for run, name in names.items():
        found += [_member(name, replace(base, emulator=run), k, config.perturb) for k in range(config.members)]
    return found


def _name(run: str) -> str:
    """The folder's name, with the one above it where it is but ``run``."""
    path = Path(run).resolve()
    return path.parent.name if path.name == "run" else path.name


def _member(group: str, settings: CoupleConfig, k: int, perturb: float) -> Member:
    return Member(f"{group}-m{k}", group, replace(settings, perturb=perturb if k else 0.0, member=k))


def run_ensemble(config: EnsembleConfig, finished: Callable[[Member], object] | None = None) -> dict[str, Any]:
    """Run every member that is not finished, then :func:`summarise`; see :func:`subgrid.workflows.jobs.run_jobs`."""
    jobs = plan(config)
    open_store(config.data)  # a wrong store is told before anything begins
    run_jobs(config, jobs, "ensemble", finished)
    return summarise(config.out)


def summarise(out: Path | str) -> dict[str, Any]:
    """Noise floor, distances in units of it and survival, of the members that are finished; kept in ``ensemble.json``.

    Beside it ``growth`` (Zarr) holds the RMSE of each day, see :func:`subgrid.coupling.ensemble.growth_of`; it and the
    survival of each run are drawn in ``growth.png`` and ``survival.png``.

    Raises:
        SubgridError: no ensemble, or fewer than two finished controls.
    """
    out = Path(out)
    about = planned(out, "ensemble")
    done = {name: one for name, one in about.items() if (out / name / "metrics.json").exists()}
    metrics = {name: read_json(out / name / "metrics.json") for name in done}
    controls = [name for name, one in done.items() if one["group"] == CONTROL and metrics[name]["finite"]]
    if len(controls) < 2:
        raise SubgridError(f"{out} has {len(controls)} finished control members, a noise floor needs two")
    config = read_record(out / controls[0] / "config.json", COUPLED)
    store, days = open_store(config["data"]), int(config["days"])
    grid, late = store.grid, window(days)
    daily = {name: open_climate(out / name / "daily") for name in done}
    climates = [means(daily[name], late, grid) for name in controls]
    floor = noise_floor(climates, grid)
    members = {}
    for name, one in done.items():
        found = metrics[name]
        told = {"group": one["group"], "member": one["member"], "days": found["days"], "finite": found["finite"]}
        if found["days"] == days:
            others = [c for c, control in zip(climates, controls, strict=True) if control != name]
            rmse = against(means(daily[name], late, grid), others, grid)
            ratio = {key: value / floor[key] for key, value in rmse.items() if floor[key] > 0}
            told |= {"rmse": rmse, "ratio": ratio}
        members[name] = told
    growing = {name: daily[name].isel(time=slice(0, metrics[name]["days"])) for name in done if metrics[name]["days"]}
    write_dataset(out / GROWTH, growth_of(growing, [daily[name] for name in controls], grid, days))
    summary = {
        "days": days,
        "window": [late.start, late.stop],
        "controls": controls,
        "floor": floor,
        "members": members,
        "counts": _counts(out, about),
    }
    write_record(out / SUMMARY, ENSEMBLE, summary)
    _draw(out, summary)
    return summary


def _draw(out: Path, summary: dict[str, Any]) -> None:
    """``growth.png`` and ``survival.png``."""
    groups = {name: one["group"] for name, one in summary["members"].items() if one["group"] != CONTROL}
    if not groups:
        return
    lives: dict[str, list[tuple[int, bool]]] = {}
    for name, group in groups.items():
        one = summary["members"][name]
        lives.setdefault(group, []).append((one["days"], not one["finite"]))
    drawn = {"growth": growth(open_climate(out / GROWTH), groups), "survival": survival(lives, summary["days"])}
    for name, figure in drawn.items():
        write_file(out / f"{name}.png", partial(_save, figure))


def _save(figure: Any, path: Path) -> None:
    path.write_bytes(png(figure))


def _counts(out: Path, about: dict[str, Any]) -> dict[str, int]:
    states = [job_state(out / name, (out / name / "metrics.json").exists()) for name in about]
    return {state: states.count(state) for state in STATES}


def ensemble_lines(summary: dict[str, Any], out: str) -> list[str]:
    """The table that a terminal shows."""
    counts = ", ".join(f"{number} {state}" for state, number in summary["counts"].items() if number)
    first, last = summary["window"]
    floor = ", ".join(f"{name} {value:.3g}" for name, value in summary["floor"].items() if name in SHOWN)
    lines = [
        f"{out}: {counts}",
        f"noise floor of days {first + 1}-{last} ({len(summary['controls'])} controls): {floor}",
    ]
    width = max(len(name) for name in summary["members"])
    for name, one in summary["members"].items():
        if one["group"] == CONTROL:
            continue
        said = "  ".join(f"{key} {value:.2f}" for key, value in one.get("ratio", {}).items() if key in SHOWN)
        ended = f"{one['days']} days" + ("" if one["finite"] else ", unstable")
        lines.append(f"{name:{width}s}  {ended}  {'x floor: ' + said if said else ''}".rstrip())
    failed = [name for name in summary["members"] if remembered(Path(out) / name).get("error")]
    return lines + [f"failed: {', '.join(failed)}"] * bool(failed)
