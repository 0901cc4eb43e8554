"""Columns made by the host itself: spin-up, a training year, and alternating months for validation and test."""

from __future__ import annotations

import calendar
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.arrays import write_arrays
from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.base.provenance import provenance
from subgrid.columns.layout import StoreSpec
from subgrid.columns.store import ColumnStore, open_store
from subgrid.columns.writer import StoreWriter
from subgrid.hosts.climate import PIECE_DAYS, ClimateWriter, monthly_means, open_climate
from subgrid.hosts.models import Carry, SteppedModel
from subgrid.hosts.sampling import Calendar, GenerateConfig, column_probability

logger = logging.getLogger("subgrid")
#: Samples that may wait to be appended while the host goes on.
WAITING = 2


class Generator:
    """Runs the host and fills a store, day by day; :meth:`run` resumes what a kill left."""

    def __init__(
        self, path: Path | str, name: str, host: Any, config: GenerateConfig, build: Callable[[], SteppedModel]
    ) -> None:
        """What is to be made.

        Args:
            path: of the store.
            name: of the host.
            host: its settings, a dataclass with ``start`` and ``steps_per_day``.
            config: of the sampling.
            build: the host's model, which records the terms if ``config`` says so.
        """
        config.check(host)
        self.path, self.host, self.config, self.name, self.build = Path(path), host, config, name, build
        self.calendar = Calendar(host, config)
        self.perturb: Callable[[Carry], Mapping[str, Any]] | None = None

    def run(self) -> ColumnStore:
        """Generate (or go on generating) the store.

        Raises:
            SubgridError: the folder is not writable, holds other settings, or the host became unstable.
        """
        with only_writer(self.path):
            if self.path.exists():
                return self._finished()
            model = self.build()
            spec = StoreSpec(
                grid=model.grid,
                arrays=dict(model.arrays),
                time_step=model.dt,
                host=self.name,
                provenance=provenance(host=self.host, generate=self.config),
            )
            writer = StoreWriter(self.path, spec)
            with log_file(writer.folder, "generate"):
                return self._fill(model, writer)

    def _fill(self, model: SteppedModel, writer: StoreWriter) -> ColumnStore:
        self.perturb = model.perturber(self.config.seed) if self.config.perturbed_fraction else None
        climate = self._climate(writer.folder / "control" / "daily", model)
        day, carry = 0, model.initial()
        if writer.resumed is not None:
            day = int(writer.resumed["day"])
            carry = model.from_arrays(writer.resumed)
            logger.info("generate: goes on from %s", self.calendar.date(day))
        self._days(model, writer, climate, carry, day)
        monthly = monthly_means(open_climate(writer.folder / "control" / "daily")).drop_encoding()
        monthly.to_zarr(writer.folder / "control" / "monthly", mode="w", consolidated=False)
        return writer.finish()

    def _finished(self) -> ColumnStore:
        """The store that is there already, if it was made with these settings."""
        store = open_store(self.path)
        wanted = json.loads(json.dumps(provenance(host=self.host, generate=self.config)))
        # A setting that the store's own generation did not have yet had its default.
        defaults = {"host": asdict(type(self.host)()), "generate": asdict(GenerateConfig())}
        held = {name: store.spec.provenance.get(name) for name in defaults}
        changed = [name for name, one in held.items() if not one or {**defaults[name], **one} != wanted[name]]
        if changed:
            raise SubgridError(
                f"{self.path} exists already, made with other settings ({', '.join(changed)}); remove it or choose "
                "another name"
            )
        logger.info("generate: %s is finished already", self.path)
        return store

    def _climate(self, path: Path, model: SteppedModel) -> ClimateWriter:
        profiles, scalars = model.climate_names()
        first = self.calendar.date(self.calendar.first_train)
        return ClimateWriter(
            path,
            model.grid,
            profiles,
            scalars,
            start=calendar.timegm(first.timetuple()),
            days=self.calendar.days - self.calendar.first_train,
            attributes={"source": "the host's own column physics", "host": self.name},
        )

    def _days(self, model: SteppedModel, writer: StoreWriter, climate: ClimateWriter, carry: Carry, first: int) -> None:
        advance = model.program()
        with Progress("generate", self.calendar.days, "days", done=first) as bar, _Behind(writer) as rows:
            for day in range(first, self.calendar.days):
                if self.calendar.restart_here(day):
                    self._save_restart(writer.folder / "restarts", day, model, carry)
                carry = self._one_day(model, rows, advance, carry, day)
                if day >= self.calendar.first_train:
                    means = {n: np.asarray(v) / self.host.steps_per_day for n, v in carry.sums.items()}
                    climate.add(day - self.calendar.first_train, means)
                bar.update(1, str(self.calendar.date(day)))
                # Pieces end where the control's chunks end, so that a resumed run rewrites whole chunks.
                if (day + 1 - self.calendar.first_train) % PIECE_DAYS == 0 or day + 1 == self.calendar.days:
                    climate.flush()
                    rows.wait()
                    writer.checkpoint({"day": np.asarray(day + 1), **model.to_arrays(carry)})

    def _save_restart(self, folder: Path, day: int, model: SteppedModel, carry: Carry) -> None:
        folder.mkdir(exist_ok=True)
        write_arrays(folder / f"{self.calendar.date(day)}.safetensors", model.to_arrays(carry))

    def _one_day(self, model: SteppedModel, rows: _Behind, advance: Any, carry: Carry, day: int) -> Carry:
        steps = self.host.steps_per_day
        split = self.calendar.split(day)
        sampled = {s + 1 for s in range(steps) if split and (day * steps + s) % self.config.stride == 0}
        at = 0
        for stop in sorted(sampled | {steps}):
            carry = advance(carry, stop - at, at == 0)
            at = stop
            if not bool(carry.stable):
                raise SubgridError(f"the host itself became unstable on {self.calendar.date(day)}")
            if split and stop in sampled:
                self._sample(model, rows, carry, split)
        return carry

    def _sample(self, model: SteppedModel, rows: _Behind, carry: Carry, split: str) -> None:
        train = split == "train"
        fraction = self.config.fraction if train else self.config.evaluation_fraction
        probability = column_probability(model.grid.area, fraction)
        random = np.random.default_rng((self.config.seed, int(carry.step)))
        self._append(model, rows, carry, split, carry.columns, probability, random)
        if train and self.perturb is not None:
            alike = np.full(model.grid.columns, self.config.perturbed_fraction)
            nowhere = np.zeros(model.grid.columns)  # perturbed columns stand for no part of the climate
            self._append(model, rows, carry, "perturbed", self.perturb(carry), alike, random, nowhere)

    def _append(
        self,
        model: SteppedModel,
        behind: _Behind,
        carry: Carry,
        split: str,
        columns: Mapping[str, Any],
        probability: NDArray[np.float64],
        random: np.random.Generator,
        area: NDArray[np.float64] | None = None,
    ) -> None:
        chosen = np.flatnonzero(random.random(model.grid.columns) < probability)
        time = model.seconds(carry.time) - int(model.dt)
        weight = ((model.grid.area if area is None else area) / probability)[chosen]

        def rows() -> dict[str, NDArray[Any]]:
            found: dict[str, NDArray[Any]] = {
                name: self._stack(columns, variables, chosen) for name, variables in model.arrays.items()
            }
            found["time"] = np.full(len(chosen), time, np.int64)
            found["column"] = chosen.astype(np.int32)
            found["weight"] = weight.astype(np.float32)
            return found

        behind.append(split, rows)

    @staticmethod
    def _stack(columns: Mapping[str, Any], variables: Any, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        parts = [np.atleast_2d(np.asarray(columns[v.name]))[:, chosen] for v in variables]
        return np.ascontiguousarray(np.concatenate(parts).T)


class _Behind:
    """Appends rows to a writer on a thread of its own, in the order given, while the host goes on."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="generate")
        self._open: deque[Future[None]] = deque()

    def append(self, split: str, rows: Callable[[], dict[str, NDArray[Any]]]) -> None:
        """Append what ``rows`` makes; raises what an earlier append met. A few samples at most wait their turn."""
        while self._open and (len(self._open) > WAITING or self._open[0].done()):
            self._open.popleft().result()
        self._open.append(self._pool.submit(lambda: self.writer.append(split, rows())))

    def wait(self) -> None:
        """Until everything is appended."""
        while self._open:
            self._open.popleft().result()

    def __enter__(self) -> _Behind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown(cancel_futures=True)
