"""SPEEDY's processes, and what each of them gives: what an emulator of it must predict. No jax here."""

from __future__ import annotations

PROGNOSTIC = ("temperature", "specific_humidity", "u_wind", "v_wind")
#: Targets that are not tendencies, by process. What goes up from the surface belongs to the surface.
PROCESS_FLUXES: dict[str, tuple[str, ...]] = {
    "convection": ("convective_precipitation",),
    "condensation": ("large_scale_precipitation",),
    "shortwave": ("absorbed_solar", "surface_net_shortwave"),
    "longwave": ("outgoing_longwave", "surface_downward_longwave"),
    "surface": (
        "surface_upward_longwave",
        "sensible_heat_flux",
        "evaporation",
        "surface_stress_u",
        "surface_stress_v",
        "surface_net_heat_flux",
    ),
    "diffusion": (),
}
#: Prognostic variables that a process changes.
PROCESS_TENDENCIES: dict[str, tuple[str, ...]] = {
    "convection": ("temperature", "specific_humidity"),
    "condensation": ("temperature", "specific_humidity"),
    "shortwave": ("temperature",),
    "longwave": ("temperature",),
    "surface": PROGNOSTIC,
    "diffusion": ("temperature", "specific_humidity"),
}
#: Targets of each process.
PROCESSES: dict[str, tuple[str, ...]] = {
    process: (*(f"{name}_tendency" for name in PROCESS_TENDENCIES[process]), *PROCESS_FLUXES[process])
    for process in PROCESS_FLUXES
}
#: Names of several processes together.
GROUPS: dict[str, tuple[str, ...]] = {"radiation": ("shortwave", "longwave")}
