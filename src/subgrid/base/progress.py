"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

from subgrid.base.logs import quiet

logger = logging.getLogger("subgrid")
#: Seconds between plain progress lines.
PLAIN_INTERVAL = 20.0


class Progress:
    """``with Progress("generate", total=730, unit="days") as bar: bar.update(1)``."""

    def __init__(self, title: str, total: int, unit: str = "steps", done: int = 0) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._started = time.monotonic()
        self._said = self._started
        self._begun_at = done
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not quiet():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.done)
        return self

    def update(self, count: int = 1, note: str = "") -> None:
        """Say that ``count`` more units are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, description=f"{self.title} {note}".rstrip())
        now = time.monotonic()
        if now - self._said >= PLAIN_INTERVAL or self.done >= self.total:
            self._said = now
            rate = (self.done - self._begun_at) / max(now - self._started, 1e-9)
            logger.info(
                "%s: %d of %d %s, %.3g %s/s %s",
                self.title,
                self.done,
                self.total,
                self.unit,
                rate,
                self.unit,
                note,
                extra={"on_bar": self._bar is not None},  # then for log files alone
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
