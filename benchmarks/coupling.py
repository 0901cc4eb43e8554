"""The coupled step beside dynamics and network timed alone, through both bridges; and memory over a long run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import emit, host_config, measure, options, scratch

#: A coupled step against dynamics + network: converted to jax, and through the callback.
GOALS = {"jax": 1.10, "callback": 1.30}
#: Resident memory may grow by this much a simulated day: a year then stays within 40 MB.
SLOPE_GOAL = 0.1


def host_with_store(folder: Path, smoke: bool, truncation: int = 21) -> tuple[Any, Path, Any]:
    """A host ten days from rest, the restart of that state, and a store of the columns of some later steps."""
    from dataclasses import asdict

    from safetensors.numpy import save_file

    from subgrid.columns import StoreWriter, variable_set
    from subgrid.columns.layout import StoreSpec
    from subgrid.hosts.generate import Generator
    from subgrid.hosts.speedy.host import Speedy

    folder.mkdir(parents=True, exist_ok=True)
    host = Speedy(**{**asdict(host_config(smoke)), "truncation": truncation})
    advance, chosen = host.model.program(), variable_set("speedy")
    carry = host.model.initial()
    if not smoke:
        carry = advance(carry, 10 * host.config.steps_per_day, True)
    restart = folder / "restart.safetensors"
    save_file({k: np.array(v, order="C") for k, v in host.model.to_arrays(carry).items()}, restart)
    carry = host.start(restart)
    arrays = {"inputs": chosen.inputs, "targets": chosen.targets}
    writer = StoreWriter(folder / "store.zarr", StoreSpec(host.grid, arrays, host.time_step, host.name, {}))
    columns = np.arange(host.grid.columns)
    for _ in range(1 if smoke else 4):
        carry = advance(carry, 11, False)
        rows: dict[str, Any] = {n: Generator._stack(carry.columns, group, columns) for n, group in arrays.items()}
        rows |= {"time": np.zeros(len(columns), np.int64), "column": columns.astype(np.int32)}
        writer.append("train", rows | {"weight": host.grid.area.astype(np.float32)})
    return host, restart, writer.finish()


def quiet_emulator(network: str, store: Any) -> Any:
    """An untrained emulator with fitted transforms whose tendencies are all but zero, so that every run stays stable.

    What the weights are makes no difference to the time that they take.
    """
    import torch

    from subgrid.emulator import build_emulator
    from subgrid.training.statistics import fit_transforms

    torch.manual_seed(0)
    emulator = build_emulator(network, store.variable_set("speedy"), store.grid.vertical, store.spec.time_step)
    fit_transforms(emulator, store["train"])
    outputs = emulator.outputs
    for values in (outputs.profile_mean, outputs.scalar_mean):
        values.zero_()
    for values in (outputs.profile_std, outputs.scalar_std):
        values.mul_(1e-3)
    return emulator.eval()


def network_seconds(call: Callable[[], Any], evaluations: int) -> float:
    """Mean seconds of one ``call``: of as many in a row as a day has steps, as the steps are timed."""
    started = time.perf_counter()
    for _ in range(evaluations):
        call()
    return (time.perf_counter() - started) / evaluations


def network_alone(emulator: Any, sample: np.ndarray, bridge: str) -> Callable[[], Any]:
    """One evaluation outside the host: of the jitted function that the host would call, or in torch."""
    import jax
    import jax.numpy as jnp
    import torch

    from subgrid.emulator.flat import FlatEmulator
    from subgrid.hosts.bridge import flat_function

    if bridge == "jax":
        compiled, x = jax.jit(flat_function(emulator, sample, bridge)[0]), jnp.asarray(sample)
        return lambda: jax.block_until_ready(compiled(x))
    flat, rows = FlatEmulator(emulator).eval(), torch.from_numpy(sample)

    def call() -> Any:
        with torch.inference_mode():
            return flat(rows)

    return call


def step_cost(host: Any, restart: Path, emulator: Any, network: str, bridge: str, rounds: int) -> dict[str, Any]:
    """A coupled step against a step of the dynamics alone plus the network alone, in turns."""
    from subgrid.hosts.driving import Drive

    drive = Drive(bridge=bridge)
    sample = host.flat_columns(host.start(restart), emulator)
    physics, used = host.emulator_physics(emulator, sample, drive)
    call = network_alone(emulator, sample, used)
    call()
    turns = []
    for _ in range(rounds):
        dynamics = host.time_steps(host.null_physics, restart, days=1)
        coupled = host.time_steps(physics, restart, days=1, diagnostics=host.diagnostics(emulator, drive))
        turns.append((coupled, dynamics, network_seconds(call, host.config.steps_per_day)))
    coupled, dynamics, evaluated = (statistics.median(part) for part in zip(*turns, strict=True))
    return measure(
        f"small {network}, bridge {used}",
        1e3 * coupled,
        "ms/step",
        1e3 * (dynamics + evaluated),
        "dynamics + network",
        ratio=statistics.median(c / (d + n) for c, d, n in turns),
        at_most=GOALS[used],
        dynamics_ms=1e3 * dynamics,
        network_ms=1e3 * evaluated,
    )


def memory_slope(host: Any, restart: Path, emulator: Any, days: int, folder: Path, bridge: str) -> dict[str, Any]:
    """Growth of resident memory over a coupled run from the day after its first piece is written (buffers, caches)."""
    import psutil

    from subgrid.hosts.climate import PIECE_DAYS
    from subgrid.hosts.driving import Drive

    process, resident = psutil.Process(), []

    def look(day: int, means: Mapping[str, Any]) -> None:
        resident.append(process.memory_info().rss / 1e6)

    done = host.run(emulator, restart, days, folder, Drive(bridge=bridge), on_day=look)
    first = PIECE_DAYS + 1 if days >= 2 * PIECE_DAYS else days // 3
    slope = float(np.polyfit(np.arange(first, len(resident)), resident[first:], 1)[0])
    return measure(
        f"resident memory over {done.days} days, bridge {done.bridge}",
        slope,
        "MB/day",
        at_most=SLOPE_GOAL,
        stable=done.unstable is None,
        megabytes=[round(resident[i]) for i in np.linspace(0, len(resident) - 1, 7).astype(int)],
    )


def main() -> None:
    """Both networks through both bridges, then a long run."""
    chosen = options(__doc__, days={"type": int, "default": 365, "help": "length of the run that watches memory"})
    smoke = chosen.smoke
    networks, bridges = (("mlp",), ("jax",)) if smoke else (("mlp", "unet"), ("jax", "callback"))
    rounds, days = (1, 2) if smoke else (7, chosen.days)
    with emit("coupling", smoke) as found, scratch() as folder:
        host, restart, store = host_with_store(folder, smoke)
        emulators = {network: quiet_emulator(network, store) for network in networks}
        for network, emulator in emulators.items():
            found.extend(step_cost(host, restart, emulator, network, bridge, rounds) for bridge in bridges)
        for bridge in bridges:
            found.append(memory_slope(host, restart, emulators["mlp"], days, folder / bridge, bridge))


if __name__ == "__main__":
    main()
