"""Work in threads: all of it, a few at a time, and an end at the first failure."""

from __future__ import annotations

import threading
import time

import pytest

from subgrid.base.errors import UsageError
from subgrid.base.threads import in_threads


def test_all_items_are_worked_on_at_most_so_many_at_a_time():
    lock, now, most, seen, done = threading.Lock(), [0], [0], [], []

    def work(item):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
            seen.append(item)

    in_threads(work, range(20), 3, lambda: done.append(1))
    assert sorted(seen) == list(range(20)) and len(done) == 20
    assert 1 < most[0] <= 3


def test_a_failure_ends_it_soon_and_is_raised():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        time.sleep(0.005)

    with pytest.raises(ValueError, match="three"):
        in_threads(work, range(1000), 2, lambda: None)
    assert len(begun) < 20


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    def work(item):
        raise ValueError(item)

    with pytest.raises(ValueError):
        in_threads(work, items(), 2, lambda: None)
    assert len(taken) < 20


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_wrong_usage(workers):
    with pytest.raises(UsageError, match=f"workers={workers}"):
        in_threads(print, [1], workers, lambda: None)
