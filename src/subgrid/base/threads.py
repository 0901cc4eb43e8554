"""Work on many items in a few threads; the first failure ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from subgrid.base.errors import UsageError

Item = TypeVar("Item")


def require_workers(workers: int) -> None:
    """Refuse a number of workers that is not positive."""
    if workers < 1:
        raise UsageError(f"workers={workers} must be positive")


def in_threads(work: Callable[[Item], object], items: Iterable[Item], workers: int, done: Callable[[], None]) -> None:
    """Call ``work`` on every item, ``workers`` at a time, and ``done`` (in this thread) after each.

    After a failure or an interruption no further item is begun; those that have begun end, and then it is raised.

    Raises:
        UsageError: ``workers`` is not positive.
    """
    require_workers(workers)
    running: set[Future[object]] = set()

    def collect(finished: Iterable[Future[object]]) -> None:
        for future in finished:
            future.result()
            done()

    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                running.add(pool.submit(work, item))
                if len(running) >= 2 * workers:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    collect(finished)
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                collect(finished)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
