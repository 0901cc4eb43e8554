"""Making columns with the host: columns stored per second, and what sampling and writing add to the host's own time."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from common import emit, host_config, interleaved, measure, median_ratio, options, scratch

GOAL = 1.25


class Stretch:
    """A generator that stores stretch after stretch of days, each from the same state of the host."""

    def __init__(self, path: Path, host: Any, model: Any, carry: Any, days: int, rounds: int, perturbed: float) -> None:
        from subgrid.columns.layout import StoreSpec
        from subgrid.columns.writer import StoreWriter
        from subgrid.hosts.generate import Generator
        from subgrid.hosts.sampling import GenerateConfig
        from subgrid.hosts.speedy.perturb import perturber

        settings = GenerateConfig(spin_up_days=0, train_days=(rounds + 1) * days, perturbed_fraction=perturbed)
        self.generator = Generator(path, "speedy", host, settings, lambda: model)
        self.writer = StoreWriter(path, StoreSpec(model.grid, dict(model.arrays), model.dt, "speedy", {}))
        if perturbed:
            self.generator.perturb = perturber(model, settings.seed)
        self.climate = self.generator._climate(self.writer.folder / "control" / "daily", model)
        self.model, self.carry, self.days, self.first = model, carry, days, 0

    def __call__(self) -> None:
        """Generate the next days as `subgrid data generate` does, the checkpoint at their end included."""
        self.generator.calendar.days = self.first + self.days
        self.generator._days(self.model, self.writer, self.climate, self.carry, self.first)
        self.first += self.days

    def samples(self) -> int:
        """Columns stored so far."""
        return sum(split.samples for split in self.writer.splits.values())


def main() -> None:
    """Interleave the bare host, generation without perturbed columns, and with them."""
    chosen = options(__doc__)
    days, rounds = (1, 1) if chosen.smoke else (30, 3)
    with emit("generation", chosen.smoke) as found, scratch() as folder:
        import jax

        from subgrid.hosts.sampling import GenerateConfig
        from subgrid.hosts.speedy.model import SpeedyModel

        host = host_config(chosen.smoke)
        model = SpeedyModel(host)
        advance = model.program()
        carry = advance(model.initial(), 1 if chosen.smoke else 10 * host.steps_per_day, True)
        share = GenerateConfig().perturbed_fraction

        def bare() -> None:
            state = carry
            for _ in range(days):
                state = jax.block_until_ready(advance(state, host.steps_per_day, True))

        plain = Stretch(folder / "plain.zarr", host, model, carry, days, rounds, 0.0)
        perturbed = Stretch(folder / "perturbed.zarr", host, model, carry, days, rounds, share)
        if not chosen.smoke:
            for warm in (bare, plain, perturbed):  # compilation, and the first touch of files
                warm()
        before = plain.samples(), perturbed.samples()
        floor, *walls = interleaved(rounds, bare, plain, perturbed)
        for title, stretch, wall, held in (
            ("columns of the climate", plain, walls[0], before[0]),
            (f"the same and perturbed columns ({share:g} of each sample)", perturbed, walls[1], before[1]),
        ):
            stored = (stretch.samples() - held) / rounds
            found.append(
                measure(
                    title,
                    statistics.median(wall) / days,
                    "s/simulated day",
                    statistics.median(floor) / days,
                    "the bare host",
                    ratio=median_ratio(wall, floor),
                    at_most=GOAL,
                    columns_per_second=stored / statistics.median(wall),
                    host_columns_per_second=model.grid.columns * host.steps_per_day * days / statistics.median(floor),
                )
            )


if __name__ == "__main__":
    main()
