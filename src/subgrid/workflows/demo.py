"""The main job: generate, train, evaluate, couple, export, report; finished stages are reused."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer, read_json, write_json
from subgrid.base.formats import BUNDLE, EVALUATION, read_record
from subgrid.base.logs import log_file
from subgrid.base.provenance import versions
from subgrid.base.resources import PeakMemory
from subgrid.coupling.run import CoupleConfig, couple
from subgrid.deployment import ExportConfig, export
from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.hosts.base import host
from subgrid.hosts.sampling import GenerateConfig
from subgrid.report import write_report
from subgrid.training.fit import TrainConfig, fit

logger = logging.getLogger("subgrid")

#: What ``--tiny`` changes: days instead of years and a few hundred steps, to show (and test) the way.
TINY_SAMPLING = GenerateConfig(
    spin_up_days=2, train_days=6, evaluation_days=6, gap_days=1, fraction=0.3, evaluation_fraction=0.3
)
TINY_DAYS = 2


@dataclass(frozen=True)
class DemoPlan:
    """Settings of every stage of the demo in ``folder``."""

    folder: Path
    sampling: GenerateConfig
    train: TrainConfig
    couple: CoupleConfig
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """Where the columns are."""
        return self.folder / "store.zarr"

    @property
    def run(self) -> Path:
        """Where the training run is."""
        return self.folder / "run"


def plan(folder: Path, tiny: bool = False) -> DemoPlan:
    """The demo's settings: two years at T21, an MLP on relative humidity and plume buoyancy, 30 coupled days."""
    store, run = str(folder / "store.zarr"), str(folder / "run")
    tiny_recipe = {"epochs": 10, "batch_size": 1024}
    return DemoPlan(
        folder=folder,
        sampling=TINY_SAMPLING if tiny else GenerateConfig(),
        train=TrainConfig(
            data=store,
            architecture="mlp",
            recipe_settings=tiny_recipe if tiny else {},
        ),
        couple=CoupleConfig(emulator=run, data=store, days=TINY_DAYS if tiny else 30),
    )


def run_demo(folder: Path, tiny: bool = False) -> dict[str, Any]:
    """Run every stage that is not finished, then write ``summary.json`` and ``report.html``.

    A stage is finished when it says so itself (a renamed store, a ``metrics.json``); its time is kept in
    ``stages.json``, so that a reused stage still shows what it took.

    Raises:
        SubgridError: a stage failed, or the folder holds a demo of the other size.
    """
    chosen = plan(folder, tiny)
    with only_writer(folder / "demo"), log_file(folder, "demo"), PeakMemory() as memory:
        times = _Times(folder / "stages.json", tiny)
        times.stage(
            "generate",
            chosen.store.exists(),
            lambda: host("speedy", **chosen.host).generate(chosen.store, chosen.sampling),
        )
        times.stage("train", (chosen.run / "metrics.json").exists(), lambda: fit(chosen.train, chosen.run))
        scored = EvaluateConfig(emulator=str(chosen.run), data=str(chosen.store))
        times.stage(
            "evaluate",
            (folder / "evaluation" / "scores.json").exists(),
            lambda: evaluate(scored, folder / "evaluation"),
        )
        times.stage(
            "couple",
            (folder / "coupled" / "metrics.json").exists(),
            lambda: couple(chosen.couple, folder / "coupled"),
        )
        times.stage(
            "export",
            (folder / "export" / "report.json").exists(),
            lambda: export(
                chosen.run, folder / "export", ExportConfig(str(chosen.store), online=str(folder / "coupled"))
            ),
        )
        memory.sample()
        times.peak(memory.gib)
        write_json(folder / "summary.json", summarise(folder, times, tiny))
        times.stage("report", False, lambda: write_report(folder))
        summary = summarise(folder, times, tiny)
        write_json(folder / "summary.json", summary)
        return summary


class _Times:
    """Seconds of each stage, kept in a file, and the peak memory over all calls."""

    def __init__(self, path: Path, tiny: bool) -> None:
        self.path = path
        self.held: dict[str, Any] = read_json(path) if path.exists() else {"tiny": tiny, "stages": {}}
        if self.held.get("tiny") != tiny:
            raise SubgridError(
                f"{path.parent} holds a {'tiny' if self.held.get('tiny') else 'full'} demo; choose another folder"
            )

    def stage(self, name: str, finished: bool, work: Callable[[], object]) -> None:
        """Do ``work`` unless it is finished, and keep how long it took (over all its attempts)."""
        if finished:
            logger.info("demo: %s is finished already, reused", name)
            return
        logger.info("demo: %s", name)
        started = time.monotonic()
        try:
            work()
        finally:
            before = 0.0 if name == "report" else self.held["stages"].get(name, 0.0)
            self.held["stages"][name] = round(before + time.monotonic() - started, 1)
            write_json(self.path, self.held)

    def peak(self, gib: float) -> None:
        """Remember the largest memory seen in any call."""
        self.held["peak_memory_GiB"] = round(max(gib, self.held.get("peak_memory_GiB", 0.0)), 2)
        write_json(self.path, self.held)


def summarise(folder: Path, times: _Times, tiny: bool) -> dict[str, Any]:
    """The demo in numbers, from the files that the stages left."""
    scores = read_record(folder / "evaluation" / "scores.json", EVALUATION)
    coupled = read_json(folder / "coupled" / "metrics.json")
    exported = read_record(folder / "export" / "report.json", BUNDLE)
    online = {
        key: coupled.get(key)
        for key in (
            "days",
            "finite",
            "first_unstable_day",
            "mid_troposphere_temperature_difference_K",
            "lowest_level_humidity_ratio",
            "precipitation_ratio",
            "simulated_years_per_day",
            "step_ms",
        )
    }
    return {
        "stages": times.held["stages"],
        "offline": {
            "r2": {
                name: {model: scores["models"][model][name]["r2"] for model in ("emulator", "ridge", "mean")}
                for name in scores["variables"]
            }
        },
        "online": online,
        "export": {"max_relative_difference": exported["max_relative_difference"]},
        "peak_memory_GiB": times.held.get("peak_memory_GiB"),
        "versions": versions(),
        "commands": commands(folder, tiny),
    }


def commands(folder: Path, tiny: bool = False) -> list[str]:
    """The same job verb by verb."""
    chosen = plan(folder, tiny)
    defaults = json.loads(json.dumps(vars(GenerateConfig())))
    sampling = [f"{k}={v}" for k, v in vars(chosen.sampling).items() if v != defaults[k]]
    recipe = [f"recipe.{k}={v}" for k, v in chosen.train.recipe_settings.items()]
    return [
        " ".join(["subgrid data generate host=speedy", f"out={chosen.store}", *sampling]),
        " ".join(
            [
                f"subgrid train data={chosen.store} out={chosen.run} architecture={chosen.train.architecture}",
                f"recipe={chosen.train.recipe}",
                *recipe,
            ]
        ),
        f"subgrid evaluate {chosen.run} out={folder / 'evaluation'}",
        f"subgrid couple {chosen.run} days={chosen.couple.days} out={folder / 'coupled'}",
        f"subgrid export {chosen.run} --out {folder / 'export'} online={folder / 'coupled'}",
        f"subgrid report {folder}",
    ]


def summary_lines(summary: dict[str, Any], folder: Path) -> list[str]:
    """The table that the command prints at its end."""
    online, r2 = summary["online"], summary["offline"]["r2"]
    lines = ["", f"{'stage':12s} seconds"]
    lines += [f"{name:12s} {seconds:7.1f}" for name, seconds in summary["stages"].items()]
    lines += [f"{'total':12s} {sum(summary['stages'].values()):7.1f}", ""]
    lines += [f"{'R2 on the test months':32s} emulator   ridge"]
    for name, models in r2.items():
        values = ["constant" if models[m] is None else f"{models[m]:8.3f}" for m in ("emulator", "ridge")]
        lines.append(f"{name:32s} {' '.join(values)}")
    state = "finite" if online["finite"] else f"unstable on day {online['first_unstable_day']}"
    lines += ["", f"coupled {online['days']} days: {state}"]
    for key, text in (
        ("mid_troposphere_temperature_difference_K", "mid-troposphere temperature minus control, K"),
        ("lowest_level_humidity_ratio", "lowest-level humidity / control"),
        ("precipitation_ratio", "precipitation / control"),
        ("simulated_years_per_day", "simulated years per day"),
    ):
        if online.get(key) is not None:
            lines.append(f"  {text}: {online[key]:.3f}")
    lines += [
        f"export: largest difference {summary['export']['max_relative_difference']:.1e} of an output's spread",
        f"peak memory {summary['peak_memory_GiB']:.2f} GiB",
        f"report: {(folder / 'report.html').resolve()}",
    ]
    return lines
