"""Where blocks are converted: what a worker that outlives its conversion holds up."""

from __future__ import annotations

import threading
import time

import pytest

from subgrid.columns.climsim.workers import Inline, at_work, wait_for_others


def test_a_conversion_waits_for_the_workers_of_an_earlier_one(tmp_path, caplog):
    began, left = threading.Event(), []

    def works():
        with at_work(tmp_path):
            began.set()
            time.sleep(0.3)
            left.append(time.monotonic())

    worker = threading.Thread(target=works)
    worker.start()
    began.wait()
    with at_work(tmp_path):  # workers do not keep each other out
        pass
    wait_for_others(tmp_path)
    assert time.monotonic() >= left[0]
    assert "waits for the workers" in caplog.text
    worker.join()
    wait_for_others(tmp_path)


def test_a_task_in_this_process_keeps_its_error():
    assert Inline().submit(int, "3").result() == 3
    with pytest.raises(ValueError, match="invalid literal"):
        Inline().submit(int, "x").result()
