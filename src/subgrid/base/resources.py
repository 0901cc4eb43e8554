"""Peak memory of this process and all its children, sampled while work runs."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

GIB = 1024.0**3


class PeakMemory:
    """``with PeakMemory() as peak: ...; peak.gib`` - the largest resident size seen, GiB."""

    def __init__(self, interval: float = 0.5) -> None:
        self.interval, self.gib = interval, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def sample(self) -> None:
        """Look once."""
        total = 0
        process = psutil.Process()
        for one in [process, *process.children(recursive=True)]:
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.gib = max(self.gib, total / GIB)

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self.sample()

    def __enter__(self) -> PeakMemory:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()
