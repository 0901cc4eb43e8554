"""Numbers, times and verdicts as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTHING = "–"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
UNITS = {"temperature": "K", "u_wind": "m/s", "v_wind": "m/s", "specific_humidity": "kg/kg"}


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        return None
    return float(value) if math.isfinite(value) else None


def fixed(value: Any, digits: int = 3, signed: bool = False) -> str:
    """A number with so many decimals and a true minus sign; a dash for nothing."""
    number = _finite(value)
    if number is None:
        return NOTHING
    rounded = round(number, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}".replace("-", "−")


def count(value: Any) -> str:
    """A whole number with thousands separated."""
    return fixed(value, 0)


def skill(value: float | None) -> str:
    """An R2; far below zero its digits mean nothing."""
    return fixed(value) if value is None or abs(value) < 100 else short(value, 2)


def short(value: Any, digits: int = 3) -> str:
    """So many significant digits, as a power of ten where it is far from one."""
    number = _finite(value)
    if number is None:
        return NOTHING
    if number == 0:
        return "0"
    exponent = math.floor(math.log10(abs(number)))
    if -4 <= exponent < 6:
        return f"{float(f'{number:.{digits}g}'):,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")
    mantissa, power = f"{number:.{digits - 1}e}".split("e")
    return f"{mantissa}×10{str(int(power)).translate(_RAISED)}".replace("-", "−")


def duration(seconds: Any) -> str:
    """Seconds as hours, minutes or seconds."""
    number = _finite(seconds)
    if number is None:
        return NOTHING
    whole = round(number)
    if number < 60:
        return f"{number:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(nbytes: Any) -> str:
    """Bytes as kB, MB or GB."""
    number = _finite(nbytes)
    if number is None:
        return NOTHING
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.3g} {unit}" if unit != "bytes" else f"{number:.0f} bytes"


def units(text: Any) -> str:
    """Units with raised exponents."""
    found = str(text)
    for plain, raised in (("m2/s2", "m²/s²"), ("m/s2", "m/s²"), ("/m2", "/m²")):
        found = found.replace(plain, raised)
    return "" if found == "1" else found


def place(latitude: float, longitude: float) -> str:
    """A point on the globe."""
    east = (longitude + 180.0) % 360.0 - 180.0
    return f"{abs(latitude):.1f}°{'N' if latitude >= 0 else 'S'}, {abs(east):.1f}°{'E' if east >= 0 else 'W'}"


def listed(parts: list[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def setting(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or value == {}:
        return NOTHING
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {setting(v)}" for k, v in value.items())
    return str(value)


def stable(metrics: Mapping[str, Any]) -> bool:
    """The coupled run reached its last day within bounds."""
    return metrics.get("unstable") is None and bool(metrics.get("finite", True))


def verdict(metrics: Mapping[str, Any]) -> str:
    """The outcome of a coupled run in one or two sentences."""
    days, wanted = metrics.get("days", 0), metrics.get("requested_days", 0)
    if not stable(metrics):
        return f"The run left its bounds after {count(days)} of {count(wanted)} days: {departure(metrics)}."
    told = f"The emulator drove the host for all {count(days)} days and every value stayed finite and within bounds."
    if _finite(days) != _finite(wanted):
        told = f"The run covers {count(days)} of {count(wanted)} days; every value stayed finite and within bounds."
    drift = drifts(metrics)
    window = count(metrics.get("window_days", days))
    return f"{told} Over the last {window} days, against the control: {drift}." if drift else told


def departure(metrics: Mapping[str, Any]) -> str:
    """Where, when and how a run became unstable."""
    found = metrics.get("unstable") or {}
    told = str(found.get("reason", "state out of bounds")).replace("_", " ")
    told = told.replace(" is -", " is −")
    if found.get("variable") is not None:
        name = str(found["variable"])
        value = found.get("value")
        amount = short(value, 4) if _finite(value) is not None else f"{value}"
        told += f" ({amount} {UNITS.get(name, '')}".rstrip()
        told += f" at σ = {fixed(found.get('sigma'), 2)}, level {found.get('level')}"
        if _finite(found.get("latitude")) is not None and _finite(found.get("longitude")) is not None:
            told += f", {place(found['latitude'], found['longitude'])}"
        told += ")"
    if found.get("time"):
        told += f", on {str(found['time'])[:16].replace('T', ' at ')}"
    return told


def drifts(metrics: Mapping[str, Any]) -> str:
    """The four figures of drift as words; empty if there are none."""
    parts = []
    for key, where in (
        ("mid_troposphere_temperature_difference_K", "the middle troposphere"),
        ("lowest_level_temperature_difference_K", "the lowest level"),
    ):
        value = _finite(metrics.get(key))
        if value is not None:
            parts.append(f"{where} is {fixed(abs(value), 2)} K {'warmer' if value >= 0 else 'colder'}")
    for key, what, more, less in (
        ("lowest_level_humidity_ratio", "the lowest level", "moister", "drier"),
        ("precipitation_ratio", "precipitation", "higher", "lower"),
    ):
        value = _finite(metrics.get(key))
        if value is not None:
            change = abs(100 * (value - 1))
            parts.append(f"{what} is {fixed(change, 1)}% {more if value >= 1 else less}")
    return listed(parts) if parts else ""


def extreme(
    values: NDArray[np.float64], latitude: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[float, str]:
    """The value of largest size of a (level, latitude) field, and where it is."""
    level, row = np.unravel_index(int(np.nanargmax(np.abs(values))), values.shape)
    north = float(latitude[row])
    where = f"{abs(north):.0f}°{'N' if north >= 0 else 'S'}, σ = {float(sigma[level]):.2f}"
    return float(values[level, row]), where


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return ["| " + " | ".join(map(str, cells)) + " |" for cells in lines]
