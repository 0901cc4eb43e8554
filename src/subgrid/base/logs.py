"""The one logger, set up once by the command line."""

from __future__ import annotations

import logging
import sys
import warnings

logger = logging.getLogger("subgrid")


def set_up(level: int = logging.INFO) -> None:
    """Plain lines on standard error; other libraries only speak of errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    for noisy in ("jax", "absl", "lightning", "lightning.pytorch", "jcm", "numexpr", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
