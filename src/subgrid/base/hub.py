"""Questions to the Hugging Face Hub: tried again after passing failures, and one clear error for a lasting one."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from subgrid.base.attempts import attempt, causes, class_names
from subgrid.base.errors import SubgridError
from subgrid.base.files import NO_ROOM

Found = TypeVar("Found")
#: Statuses of a server that is busy, and of one that wants other credentials.
_BUSY, _REFUSED = (408, 429, 500, 502, 503, 504), (401, 403)
#: Classes of errors of a network that fails, by name: the library beneath the hub's changes with its version.
_UNREACHED = {"TransportError", "ConnectionError", "TimeoutError"}
_READ = 2**20


def ask(where: str, work: Callable[[], Found], at: str = "main", fewer: str = "") -> Found:
    """What ``work`` finds at the hub; tried again after a passing failure, and clear about a lasting one.

    Args:
        where: address of what is asked for, for the messages.
        work: a call of huggingface_hub.
        at: revision that is read.
        fewer: what makes fewer requests, for a hub that takes no more.

    Raises:
        SubgridError: the hub cannot be reached, refuses, or does not have it.
    """
    try:
        return attempt(work, _passing, where)
    except Exception as error:
        clear = _meaning(where, error, at, fewer)
        if clear is None:
            raise
        raise clear from error


def _meaning(where: str, error: Exception, at: str, fewer: str) -> SubgridError | None:
    """The clear error for what the hub's library raised; None for what has nothing to do with the hub."""
    kinds, statuses = class_names(*causes(error)), _statuses(error)
    if "OfflineModeIsEnabled" in kinds:
        return SubgridError(f"{where} was not asked for, because HF_HUB_OFFLINE is set: unset it")
    if "GatedRepoError" in kinds or statuses & {403}:
        return SubgridError(f"{where}: access denied: set HF_TOKEN to a token with access")
    if "RepositoryNotFoundError" in kinds:
        return SubgridError(f"{where} does not exist, or is hidden from you: check --endpoint and HF_TOKEN")
    if "RevisionNotFoundError" in kinds or "RemoteEntryNotFoundError" in kinds or statuses & {404}:
        return SubgridError(f"{where} does not exist at commit {at[:12]}")
    if statuses & set(_REFUSED):
        return SubgridError(f"{where}: access denied: set HF_TOKEN to a valid token")
    if statuses & {429}:
        return SubgridError(
            f"{where}: the hub takes no more requests now (429): wait some minutes and run the same command "
            f"again{fewer}"
        )
    if statuses & set(_BUSY):
        return SubgridError(f"{where}: the hub is busy (status {min(statuses)}): run the same command again later")
    if kinds & _UNREACHED:
        return SubgridError(f"{where} could not be reached: check the network, proxy and --endpoint, and try again")
    if "Consistency check failed" in str(error):
        return SubgridError(f"{where} came in part only: run the same command again")
    if "FileMetadataError" in kinds:
        return SubgridError(f"{where}: this does not answer like a hub: check --endpoint and proxies")
    return None


def sha256(path: Path) -> str:
    """The checksum of a file, as the hub states it."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while part := handle.read(_READ):
            digest.update(part)
    return digest.hexdigest()


def _passing(error: Exception) -> bool:
    """Whether a failure may be gone at the next attempt."""
    if any(getattr(cause, "errno", None) in NO_ROOM for cause in causes(error)):
        return False
    kinds = class_names(*causes(error))
    if "OfflineModeIsEnabled" in kinds:
        return False
    return bool(kinds & _UNREACHED or _statuses(error) & set(_BUSY) or "Consistency check" in str(error))


def _statuses(error: Exception) -> set[int]:
    """Status codes of the answers that an error and its causes are about."""
    answers = (getattr(cause, "response", None) for cause in causes(error))
    return {int(answer.status_code) for answer in answers if answer is not None}


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Without the library's bar for each file and its words on each attempt: one bar and one error stand for all."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from huggingface_hub.utils import logging as library

    bars, level = not are_progress_bars_disabled(), library.get_verbosity()
    disable_progress_bars()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            enable_progress_bars()
