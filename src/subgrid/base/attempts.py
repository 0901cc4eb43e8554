"""Work on a place that may fail for a moment: what an error means by its causes, and further attempts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

logger = logging.getLogger("subgrid")
Found = TypeVar("Found")
#: Seconds before each further attempt.
WAITS = (0.5, 1.0, 2.0)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the last first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def class_names(*errors: BaseException) -> set[str]:
    """Names of the classes of ``errors`` and of those that they derive from: libraries that raise may be absent."""
    return {kind.__name__ for error in errors for kind in type(error).__mro__}


def attempt(work: Callable[[], Found], passes: Callable[[Exception], bool], what: str) -> Found:
    """What ``work`` gives; tried again after a failure that ``passes``, after each of :data:`WAITS`.

    Args:
        work: may be called several times.
        passes: whether a failure may be gone at the next attempt.
        what: is worked on, for the log.
    """
    for wait in WAITS:
        try:
            return work()
        except Exception as error:
            if not passes(error):
                raise
            # Not its text: that of a request may hold what authorises it.
            logger.debug("%s: %s; tried again after %g s", what, type(error).__name__, wait)
            time.sleep(wait)
    return work()
