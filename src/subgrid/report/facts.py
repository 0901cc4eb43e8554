"""The head of the page: what was run, and the figures that matter most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subgrid.report.offline import main_profiles, title_of
from subgrid.report.results import Results
from subgrid.report.words import NOTHING, count, fixed, listed, setting, short, stable

HOSTS = {"speedy": "speedy (jcm with SPEEDY physics)"}
INPUTS = {
    "raw": "variables as they are",
    "relative_humidity": "relative humidity in place of specific humidity",
    "relative_humidity_buoyancy": "relative humidity in place of specific humidity, and the buoyancy of a plume",
}
SPLITS = {
    "perturbed": "Perturbed training data",
    "train": "Training data",
    "validation": "Validation data",
    "test": "Test data",
}


@dataclass(frozen=True)
class Card:
    """One figure of the summary; ``tone`` is ``good``, ``bad`` or empty."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


def title(results: Results) -> str:
    """The heading of the page."""
    config = results.config or {}
    network = f"{config['architecture']} {config.get('size', '')}".strip() if "architecture" in config else ""
    host = str((results.store or {}).get("host", ""))
    if network and host:
        return f"Emulator “{network}” on host “{host}”"
    if network:
        return f"Emulator “{network}”"
    return f"Columns of host “{host}”" if host and not results.coupled else f"Results in “{results.folder.name}”"


def facts(results: Results) -> list[tuple[str, str]]:
    """What was run, as label and text."""
    return _host_facts(results) + _data_facts(results) + _network_facts(results) + _coupled_facts(results)


def _made_with(results: Results) -> Mapping[str, Any]:
    """How the columns were made, from the store or from the run that was trained on it."""
    store = (results.store or {}).get("provenance")
    return store or (results.provenance or {}).get("store") or {}


def _host_facts(results: Results) -> list[tuple[str, str]]:
    store, host = results.store or {}, _made_with(results).get("host") or {}
    found = []
    if "host" in store:
        host_name = str(store["host"])
        found.append(("Host", HOSTS.get(host_name, host_name)))
    resolution = []
    if "truncation" in host:
        resolution.append(f"T{host['truncation']}")
    levels = store.get("levels", host.get("levels"))
    if levels is not None:
        resolution.append(f"{levels} levels")
    if "columns" in store:
        resolution.append(f"{count(store['columns'])} columns")
    minutes = store["time_step_s"] / 60 if "time_step_s" in store else host.get("time_step_minutes")
    if minutes is not None:
        resolution.append(f"step of {minutes:g} min")
    if resolution:
        found.append(("Resolution", ", ".join(resolution)))
    return found


def _data_facts(results: Results) -> list[tuple[str, str]]:
    splits = (results.store or {}).get("splits") or {}
    found = []
    for name in [n for n in SPLITS if n in splits] + [n for n in splits if n not in SPLITS]:
        split = splits[name]
        text = f"{count(split.get('samples'))} columns"
        if split.get("first"):
            text += f", {str(split['first'])[:10]} to {str(split['last'])[:10]}"
        found.append((SPLITS.get(name, f"Split {name}"), text))
    return found


def _network_facts(results: Results) -> list[tuple[str, str]]:
    config, training = results.config or {}, results.training or {}
    if "architecture" not in config:
        return []
    network = f"{config['architecture']}, size {config.get('size', NOTHING)}"
    if config.get("network"):
        network += f" ({setting(config['network'])})"
    if "parameters" in training:
        network += f", {count(training['parameters'])} parameters"
    recipe = str(config.get("recipe", NOTHING))
    if config.get("recipe_settings"):
        recipe += f" ({setting(config['recipe_settings'])})"
    emulator = config.get("emulator") or {}
    found = [("Network", network), ("Recipe", recipe)]
    if emulator:
        inputs = str(emulator.get("inputs", NOTHING))
        found.append(("Inputs", INPUTS.get(inputs, inputs.replace("_", " "))))
        found.append(("Bounds and constraints", _bounds(emulator)))
    found.append(("Variables", str(config.get("variables", NOTHING))))
    seed = f"seed {config.get('seed', NOTHING)}, {config.get('precision', NOTHING)}"
    return [*found, ("Seed and precision", seed)]


def _bounds(emulator: Mapping[str, Any]) -> str:
    clipped = [n for n in ("inputs", "outputs") if emulator.get(f"clip_{n}")]
    margin = float(emulator.get("clip_margin") or 0.0)
    widened = f", widened by {100 * margin:g} % on either side" if margin else ""
    parts = [f"{listed(clipped)} kept within the training range{widened}"] if clipped else []
    if emulator.get("condense"):
        hours = setting(emulator.get("condense_hours"))
        parts.append(f"condensation above {setting(emulator.get('condense_above'))} of saturation within {hours} h")
    if emulator.get("positive_water"):
        parts.append("drying bounded by the water held")
    if emulator.get("water", "none") != "none":
        parts.append(f"water closed by {emulator['water']}")
    return "; ".join(parts) or "none"


def _coupled_facts(results: Results) -> list[tuple[str, str]]:
    coupled, comparison = results.coupled, results.comparison
    if coupled is None:
        return []
    from subgrid.report.online import first_date

    text = f"{count(coupled.get('requested_days'))} days"
    if comparison is not None and first_date(comparison):
        text += f" from {first_date(comparison)}"
    if coupled.get("bridge"):
        text += f", bridge “{coupled['bridge']}”"
    return [("Coupled run", text)]


def cards(results: Results) -> list[Card]:
    """The summary figures, in the order of the page."""
    return [*_skill_cards(results), *_coupled_cards(results), *_export_cards(results)]


def _skill_cards(results: Results) -> list[Card]:
    if results.scores:
        scores = results.scores
        table = {
            name: {model: entry.get(name, {}).get("r2") for model, entry in scores["models"].items()}
            for name in main_profiles(scores)
        }
        names = {name: title_of(scores, name) for name in table}
    else:
        table = (((results.summary or {}).get("offline") or {}).get("r2")) or {}
        table = {n: v for n, v in table.items() if n.endswith("_tendency")}
        table = dict(list(table.items())[:2])
        names = {name: name.replace("_", " ").capitalize() for name in table}
    found = []
    for name, values in table.items():
        floors = [f"{m} {fixed(values[m])}" for m in ("ridge", "mean") if m in values]
        label = f"R², {names[name][:1].lower()}{names[name][1:]}"
        found.append(Card(label, fixed(values.get("emulator")), ", ".join(floors)))
    return found


def _coupled_cards(results: Results) -> list[Card]:
    coupled = results.coupled
    if coupled is None:
        return []
    good = stable(coupled)
    days = f"{count(coupled.get('days'))} of {count(coupled.get('requested_days'))}"
    found = [Card("Coupled days", days, "stable" if good else "left its bounds", "good" if good else "bad")]
    over = f"emulator − control, last {count(coupled.get('window_days'))} days"
    ratio = f"emulator / control, last {count(coupled.get('window_days'))} days"
    for key, label, units, note in (
        ("mid_troposphere_temperature_difference_K", "Mid-troposphere temperature", " K", over),
        ("lowest_level_temperature_difference_K", "Lowest-level temperature", " K", over),
        ("lowest_level_humidity_ratio", "Lowest-level humidity", "", ratio),
        ("precipitation_ratio", "Precipitation", "", ratio),
    ):
        if coupled.get(key) is not None:
            text = fixed(coupled[key], 2, signed=True) if units else fixed(coupled[key], 3)
            found.append(Card(label, f"{text}{units}", note))
    if coupled.get("simulated_years_per_day") is not None:
        found.append(Card("Speed", short(coupled["simulated_years_per_day"]), "simulated years per day, coupled"))
    return found


def _export_cards(results: Results) -> list[Card]:
    if results.export is None:
        return []
    value = short(results.export.get("max_relative_difference"), 2)
    return [Card("Export difference", value, "largest, in spreads of each output")]
