"""Simulated years a day of the host with each small network in it, beside the host's own physics, at T21 and T31."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import emit, measure, options, scratch
from coupling import host_with_store, quiet_emulator

DAYS_A_YEAR, SECONDS_A_DAY = 365.0, 86400.0


def years_a_day(host: Any, seconds_a_step: float) -> float:
    """Simulated years in a day of wall time."""
    return float(host.time_step / seconds_a_step / DAYS_A_YEAR)


def main() -> None:
    """Own physics first, then every network, at each resolution."""
    chosen = options(
        __doc__,
        architectures={"default": "", "help": "a comma list (default: all that are no baselines of a distribution)"},
        truncations={"default": "21,31", "help": "spectral truncations, a comma list"},
        bridge={"default": "auto", "help": "jax, callback or auto"},
    )
    from subgrid.hosts.driving import Drive

    networks = ("mlp", "unet", "squeezeformer", "res_lstm", "pao", "convnext", "encdec_lstm", "cnn", "ed")
    names = chosen.architectures.split(",") if chosen.architectures else ("mlp",) if chosen.smoke else networks
    truncations = (21,) if chosen.smoke else tuple(int(t) for t in chosen.truncations.split(","))
    drive = Drive(bridge=chosen.bridge)
    with emit("online", chosen.smoke) as found, scratch() as folder:
        for truncation in truncations:
            host, restart, store = host_with_store(Path(folder) / f"T{truncation}", chosen.smoke, truncation)
            own = host.time_steps(None, restart)
            found.append(measure(f"T{truncation}, own physics", years_a_day(host, own), "years/day", step_ms=1e3 * own))
            for name in names:
                emulator = quiet_emulator(name, store)
                physics, used = host.emulator_physics(emulator, host.flat_columns(host.start(restart), emulator), drive)
                step = host.time_steps(physics, restart, diagnostics=host.diagnostics(emulator, drive))
                found.append(
                    measure(
                        f"T{truncation}, small {name}, bridge {used}",
                        years_a_day(host, step),
                        "years/day",
                        years_a_day(host, own),
                        "own physics",
                        step_ms=1e3 * step,
                    )
                )


if __name__ == "__main__":
    main()
