"""Freed memory stays with the process: arrays that come and go meet no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from subgrid.base.memory import keep_freed_memory

_FAULTS = """
import resource, sys
import numpy as np
from subgrid.base.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def work():
    arrays = [np.ones(3_000_000, np.float32) for _ in range(4)]  # 12 MB each
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    return int(subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="another C library than glibc")
def test_arrays_that_come_and_go_meet_no_new_pages():
    # 48 MB a turn are 11,719 pages of 4 kB, fewer where the system gives large ones
    assert faults("given back") > 5000 and faults("kept") < 500
