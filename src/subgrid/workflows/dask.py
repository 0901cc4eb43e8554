"""Jobs on a cluster of dask.distributed, by the few calls that submitit's executors have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from subgrid.base.errors import SubgridError

#: Seconds to wait for a scheduler.
PATIENCE = 30


class DaskExecutor:
    """Submits calls to a scheduler, one a worker at a time.

    Args:
        address: of the scheduler; empty: a cluster of processes on this machine.
        workers: processes of such a cluster; 0: one for each core.

    Raises:
        SubgridError: dask.distributed is not installed, or no scheduler answers.
    """

    def __init__(self, address: str, workers: int) -> None:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise SubgridError("launcher=dask needs dask.distributed: pip install distributed") from error
        try:
            if address:
                self._cluster = None
            else:
                self._cluster = LocalCluster(n_workers=workers or None, threads_per_worker=1, dashboard_address=None)
            self._client = Client(self._cluster or address, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise SubgridError(
                f"launcher=dask: no scheduler answers at {address or 'this machine'} ({error})"
            ) from error

    def submit(self, call: Callable[..., Any], *words: Any) -> DaskJob:
        """Call ``call(*words)`` on a worker."""
        return DaskJob(self._client.submit(call, *words, pure=False, retries=0))

    def close(self) -> None:
        """Leave the scheduler; a cluster of this machine ends."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


class DaskJob:
    """A call under way."""

    def __init__(self, future: Any) -> None:
        self._future, self.job_id = future, future.key
        self.paths = SimpleNamespace(stderr=Path("the log of dask's worker"))

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return bool(self._future.done())

    def results(self) -> list[Any]:
        """What it gave, in a list; raises what it raised."""
        return [self._future.result()]

    def cancel(self) -> None:
        """End it."""
        self._future.cancel(force=True)
