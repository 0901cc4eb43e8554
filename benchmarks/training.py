"""Training: columns per second and share of the matrix-multiply peak, by network and precision, in a real `fit`."""

from __future__ import annotations

import statistics
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from common import emit, measure, options, scratch, synthetic_store

CASES = [(network, precision) for network in ("mlp", "unet") for precision in ("32-true", "bf16-mixed")]
#: Share of a step outside the network, for the small U-Net.
OUTSIDE_GOAL = 0.10
#: A training step does the forward pass and twice as much for the two gradients.
PASSES = 3


def matmul_seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    """Seconds of one product."""
    started = time.perf_counter()
    torch.matmul(left, right)
    return time.perf_counter() - started


def timed_task(walls: dict[str, list[float]], precision: str, size: int, warm_up: int) -> type:
    """The task of `fit`, which notes at the end of each step what the step took, and then times the network alone on
    the same batch and a matrix product: all three meet the same noise of the machine.
    """
    from subgrid.emulator.flat import unflatten
    from subgrid.training.task import EmulatorTask

    kind = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    left, right = (torch.randn(size, size).to(kind) for _ in range(2))

    class Timed(EmulatorTask):
        began = 0.0

        def on_train_start(self) -> None:
            self.began = time.perf_counter()

        def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
            step = time.perf_counter() - self.began
            network = self.network_alone(batch[0])
            product = min(matmul_seconds(left, right) for _ in range(3))
            if index >= warm_up:
                for name, wall in (("step", step), ("network", network), ("product", product)):
                    walls[name].append(wall)
            self.began = time.perf_counter()

        def network_alone(self, inputs: torch.Tensor) -> float:
            """Seconds of the forward pass and its gradients on inputs that are ready."""
            emulator = self.emulator
            with torch.no_grad():
                p, s = emulator.encode(*unflatten(inputs, len(emulator.features.profile_names), emulator.grid.n_levels))
            weights = [w for w in emulator.network.parameters() if w.requires_grad]
            started = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
                out_p, out_s = emulator.network(p, s)
            torch.autograd.grad([out_p, out_s], weights, [torch.ones_like(out_p), torch.ones_like(out_s)])
            return time.perf_counter() - started

    return Timed


def one_case(folder: Path, store: Any, network: str, precision: str, batch: int, smoke: bool) -> dict[str, Any]:
    """Train one epoch and compare its steps with the network alone and with the peak."""
    from subgrid.networks.flops import count_flops
    from subgrid.training import TrainConfig

    training = import_module("subgrid.training.fit")  # the package's attribute of that name is the function
    size, warm_up = (128, 1) if smoke else (1024, 3)
    walls: dict[str, list[float]] = {"step": [], "network": [], "product": []}
    config = TrainConfig(
        data=str(store.path),
        architecture=network,
        precision=precision,
        recipe_settings={"epochs": 1, "batch_size": batch},
        buffer_blocks=4,
    )
    plain = training.EmulatorTask
    training.EmulatorTask = timed_task(walls, precision, size, warm_up)
    try:
        emulator = training.fit(config, folder / f"{network}-{precision}")
    finally:
        training.EmulatorTask = plain
    flops = PASSES * count_flops(emulator.network, emulator.network.shape)
    shares = [n / s for n, s in zip(walls["network"], walls["step"], strict=True)]
    outside = 1.0 - statistics.median(shares)
    step = statistics.median(walls["step"])
    peak = 2 * size**3 / min(walls["product"])
    return measure(
        f"small {network}, {precision}, {batch:,} a batch: share of a step outside the network",
        outside,
        "1",
        at_most=OUTSIDE_GOAL if network == "unet" else None,
        columns_per_second=batch / step,
        step_gflop_s=flops * batch / step / 1e9,
        network_gflop_s=flops * batch / statistics.median(walls["network"]) / 1e9,
        matmul_peak_gflop_s=peak / 1e9,
        network_share_of_peak=flops * batch / statistics.median(walls["network"]) / peak,
        step_share_of_peak=flops * batch / step / peak,
        megaflop_per_column=flops / 1e6,
    )


def main() -> None:
    """Every small network in every precision."""
    chosen = options(__doc__)
    batch, steps = (256, 4) if chosen.smoke else (4096, 24)
    with emit("training", chosen.smoke) as found, scratch() as folder:
        store = synthetic_store(folder / "store.zarr", steps * batch, validation=batch, block=batch)
        for network, precision in CASES:
            found.append(one_case(folder, store, network, precision, batch, chosen.smoke))


if __name__ == "__main__":
    main()
