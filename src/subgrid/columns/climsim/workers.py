"""Where blocks are converted: in this process, in several, or on a dask cluster."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from subgrid.base.errors import SubgridError

logger = logging.getLogger("subgrid")

Result = TypeVar("Result")
#: In the partial folder of a store: held, with others, by each worker while it writes there.
LOCK_FILE = "workers.lock"
#: s to wait for a scheduler to answer.
PATIENCE = 20


class Inline(Executor):
    """Does each task at once, in this process."""

    def submit(self, work: Callable[..., Result], /, *args: Any, **settings: Any) -> Future[Result]:
        """The finished future of ``work``."""
        future: Future[Result] = Future()
        try:
            future.set_result(work(*args, **settings))
        except Exception as error:
            future.set_exception(error)
        return future


def _leave_with_parent() -> None:
    """End this worker when the process that began it is gone, even by a kill: else it would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Tell that this worker writes in ``folder``."""
    with (folder / LOCK_FILE).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def wait_for_others(folder: Path) -> None:
    """Wait until no worker writes in ``folder``: one may outlive the process that was killed by a moment."""
    with (folder / LOCK_FILE).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("convert: waits for the workers of a conversion that was stopped")
            fcntl.flock(handle, fcntl.LOCK_EX)


@contextlib.contextmanager
def executor(workers: int, scheduler: str | None) -> Iterator[tuple[Executor, int]]:
    """What runs tasks, and how many of them to have under way.

    Args:
        workers: processes on this machine (1: this one).
        scheduler: address of a dask scheduler (``tcp://...``) whose workers see the same files; then ``workers`` does
            not matter.

    Raises:
        SubgridError: no scheduler answers, or it has no workers.
    """
    if scheduler:
        with _cluster(scheduler) as found:
            yield found
    elif workers == 1:
        yield Inline(), 1
    else:
        context = multiprocessing.get_context("forkserver")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_with_parent)
        try:
            yield pool, workers + 1
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[tuple[Executor, int]]:
    from distributed import Client

    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise SubgridError(f"no dask scheduler answers at {address} ({error}): start one, or use --workers") from error
    with client:
        count = sum(client.nthreads().values())
        if not count:
            raise SubgridError(f"the dask scheduler at {address} has no workers: start some")
        # Blocks are written, not returned: running one a second time on a lost worker must be allowed.
        pool = client.get_executor(pure=False)
        try:
            yield pool, count + 1
        finally:
            pool.shutdown(wait=True)
