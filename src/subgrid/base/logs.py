"""The one logger: lines on standard error, set up by the command line, and a log file in each folder of results."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from subgrid.base.errors import SubgridError
from subgrid.base.files import make_folder, writable

logger = logging.getLogger("subgrid")
#: The log in every folder of results.
LOG_FILE = "log.txt"
NOISY = ("jax", "absl", "lightning", "lightning.pytorch", "jcm", "numexpr", "matplotlib", "hydra")


def set_up(level: int = logging.INFO) -> None:
    """Plain lines of at least ``level`` on standard error; other libraries speak of errors, and of more at DEBUG."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    handler.addFilter(lambda record: not getattr(record, "on_bar", False))
    logger.handlers[:] = [handler]
    # A log file keeps what --quiet leaves out.
    logger.setLevel(min(level, logging.INFO))
    logger.propagate = False
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING if level <= logging.DEBUG else logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")


def quiet() -> bool:
    """Whether the command line was told to say only what went wrong: no bars then."""
    return any(handler.level > logging.INFO for handler in logger.handlers)


@contextlib.contextmanager
def log_file(folder: Path, title: str) -> Iterator[None]:
    """Append every line of the logger, with its time, to ``folder/log.txt`` while the work ``title`` goes on.

    The file stays open when ``folder`` is renamed. Nested calls write to each file. A failure is written as well, with
    its traceback if it is not one that a user can meet.

    Raises:
        SubgridError: the folder cannot be written.
    """
    make_folder(folder)
    with writable(folder):
        handler = _File(folder / LOG_FILE, encoding="utf-8")
    lines = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    lines.converter = time.gmtime
    handler.setFormatter(lines)
    before = logger.level
    if logger.getEffectiveLevel() > logging.INFO:  # a program that did not call set_up
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    started = time.monotonic()
    _write(handler, logging.INFO, f"{title}: begins, process {os.getpid()}")
    try:
        yield
        _write(handler, logging.INFO, f"{title}: done after {time.monotonic() - started:.1f} s")
    except BaseException as error:
        known = isinstance(error, (SubgridError, KeyboardInterrupt))
        said = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {error}"
        _write(handler, logging.ERROR, f"{title}: {said}", None if known else error)
        raise
    finally:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
        logger.setLevel(before)


class _File(logging.FileHandler):
    """A file whose own trouble (a full disk) is left to the work to tell, in its one line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        del record


def _write(handler: logging.Handler, level: int, text: str, error: BaseException | None = None) -> None:
    """One line to this file alone: the command line says it in its own way."""
    trace = (type(error), error, error.__traceback__) if error is not None else None
    handler.handle(logging.LogRecord(logger.name, level, __file__, 0, text, None, trace))
