"""What each part of a coupled step costs, by difference."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.flat import FlatEmulator
from subgrid.hosts.driving import Drive

REPEATS = 20


def network_alone(emulator: ColumnEmulator, sample: Any) -> float:
    """Seconds of one evaluation of the emulator in torch on ``sample`` (n, n_in), the least of some."""
    flat, x = FlatEmulator(emulator).eval(), torch.from_numpy(sample)
    walls = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            started = time.perf_counter()
            flat(x)
            walls.append(time.perf_counter() - started)
    return min(walls)


def step_times(host: Any, emulator: ColumnEmulator, restart: Path, drive: Drive) -> dict[str, float]:
    """Milliseconds per step: own physics, dynamics only, coupled, the emulator alone in torch, null callback.

    ``coupling`` is what the coupled step costs beyond dynamics and network; ``callback``, of hosts that have one, what
    crossing to torch and back costs.
    """
    carry = host.start(restart)
    sample = host.flat_columns(carry, emulator)
    physics, _ = host.emulator_physics(emulator, sample, drive)
    written = {"diagnostics": host.diagnostics(emulator, drive)}
    parts = {
        "own_physics": host.time_steps(None, restart),
        "dynamics": host.time_steps(host.null_physics, restart),
        "coupled": host.time_steps(physics, restart, **written),
        "network": network_alone(emulator, sample),
    }
    crossing = host.null_callback_physics(emulator)
    if crossing is not None:
        parts["null_callback"] = host.time_steps(crossing, restart, **written)
        parts["callback"] = parts["null_callback"] - parts["dynamics"]
    parts["coupling"] = parts["coupled"] - parts["dynamics"] - parts["network"]
    return {name: round(1e3 * value, 3) for name, value in parts.items()}
