"""Memory that is freed and soon asked for again: kept by the process, since getting it back costs page faults."""

from __future__ import annotations

import contextlib
import ctypes

#: Names of glibc's settings in malloc.h, and their values: free memory up to so much stays with the process, and what
#: is larger than the second is the system's own again at once (glibc's largest value, to which it would adapt anyway).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT, LARGE = 2**30, 2**25


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory; whether the C library is one that does.

    glibc gives freed memory back once it is twice as much as the largest array so far, and a network whose arrays make
    that out would meet every page anew at each step: a quarter of the time of a small ConvNeXt.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        return bool(library.mallopt(_TRIM_THRESHOLD, KEPT) and library.mallopt(_MMAP_THRESHOLD, LARGE))
    return False
