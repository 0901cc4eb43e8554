"""Runs the real command line in a process of its own, kills it, fills its disk, and compares what it leaves."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from subgrid.base.logs import LOG_FILE

#: The command line as it is, save that days-long runs checkpoint every day instead of every 30.
RUNNER = """
import subgrid.hosts.climate as climate
climate.PIECE_DAYS = 1
from subgrid.cli.app import main
main()
"""
TIMEOUT = 600.0


class CommandLine:
    """``subgrid`` as a user runs it."""

    environment = MappingProxyType({**os.environ, "OMP_NUM_THREADS": "1"})

    def start(self, *words: object, largest_file: int | None = None) -> subprocess.Popen[str]:
        """Begin a command; ``largest_file`` limits the size of its files, bytes."""

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [sys.executable, "-c", RUNNER, *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=self.environment, preexec_fn=limit)

    def run(self, *words: object, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        process = self.start(*words, largest_file=largest_file)
        out, err = process.communicate(timeout=TIMEOUT)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def done(self, *words: object) -> str:
        """A command that must succeed; what it prints."""
        found = self.run(*words)
        assert found.returncode == 0, found.stderr
        return found.stdout

    def refused(self, *words: object, largest_file: int | None = None) -> str:
        """A command that must fail as a user may see it: exit 1, one clear line, no traceback; that line."""
        found = self.run(*words, largest_file=largest_file)
        said = [line for line in found.stderr.splitlines() if line.startswith("subgrid: ")]
        assert found.returncode == 1, (found.returncode, found.stderr)
        assert len(said) == 1 and "Traceback" not in found.stderr, found.stderr
        return said[0]

    def kill(self, words: Iterable[object], moment: Callable[[], bool]) -> bool:
        """SIGKILL the command when ``moment()`` comes true; False if it had finished before."""
        process = self.start(*words)
        begun = time.monotonic()
        while process.poll() is None and not moment():
            assert time.monotonic() - begun < TIMEOUT, "the moment of the kill never came"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode in (0, -signal.SIGKILL), err
        return process.returncode == -signal.SIGKILL

    def survive(self, words: Iterable[object], moments: Iterable[Callable[[], bool]]) -> int:
        """Kill the command at each of ``moments``, restarting it, then let it finish; how often it was killed."""
        words = list(words)
        kills = sum(self.kill(words, moment) for moment in moments)
        self.done(*words)
        return kills


def after(seconds: float) -> Callable[[], bool]:
    """The moment ``seconds`` after the first time that it is asked for."""
    begun: list[float] = []

    def come() -> bool:
        begun.append(time.monotonic())
        return begun[-1] - begun[0] >= seconds

    return come


def written(path: Path, delay: float) -> Callable[[], bool]:
    """The moment ``delay`` seconds after ``path`` is written (again)."""
    before: list[int | None] = []
    wait = after(delay)

    def stamp() -> int | None:
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_mtime_ns
        return None

    def come() -> bool:
        now = stamp()
        before.append(now) if not before else None
        return now is not None and now != before[0] and wait()

    return come


def contents(folder: Path, but: Iterable[str] = ()) -> dict[str, str]:
    """Hashes of all files below ``folder`` save logs and those named ``but``."""
    apart = {LOG_FILE, *but}
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in apart)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def metrics(folder: Path) -> dict[str, Any]:
    """``metrics.json`` without clocks."""
    found = json.loads((folder / "metrics.json").read_text())
    return {k: v for k, v in found.items() if k not in ("seconds", "simulated_years_per_day", "step_ms")}


def assert_same_run(found: Path, wanted: Path) -> None:
    """Equal weights, averages, optimiser and random states, losses and scores."""
    assert metrics(found) == metrics(wanted)
    assert contents(found / "emulator") == contents(wanted / "emulator")
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (found, wanted))
        for part in (
            "state_dict",
            "current_model_state",
            "averaging_state",
            "optimizer_states",
            "lr_schedulers",
            "epoch",
            "global_step",
        ):
            assert_equal(ours[part], theirs[part], f"{name}: {part}")
        random, theirs_random = (
            next(v for k, v in c["callbacks"].items() if "RandomState" in k) for c in (ours, theirs)
        )
        assert_equal(random, theirs_random, f"{name}: random states")


def assert_equal(a: Any, b: Any, where: str) -> None:
    """Equal to the last bit, through dicts, lists and tensors."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


class SmallDisk:
    """A folder that can be filled up: a file system of its own, or (without the right to mount one) a size limit."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self.folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        try:
            self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        except FileNotFoundError:
            self.mounted = False
        self.largest_file: int | None = None

    def fill(self) -> None:
        """Leave no room."""
        if not self.mounted:
            self.largest_file = 100
            return
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(_FullError):
                    while True:
                        _write(ballast, bytes(size))

    def free(self) -> None:
        """Make room again."""
        self.largest_file = None
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        """Take the file system away."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


class _FullError(Exception):
    """The disk is full."""


def _write(handle: Any, data: bytes) -> None:
    try:
        if handle.write(data) < len(data):
            raise _FullError
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _FullError from error
        raise
