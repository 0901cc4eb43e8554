"""The model card and the readme of a bundle, filled from the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.base.files import read_json
from subgrid.base.formats import COUPLED, EVALUATION, read_record
from subgrid.deployment.pages import fill

#: Where a run folder keeps the scores of its evaluation and of a coupled run.
SCORES, ONLINE = "evaluation/scores.json", "coupled"
#: What a coupled run says of itself: key, words, number of digits.
TOLD = (
    ("mid_troposphere_temperature_difference_K", "mid-troposphere temperature minus the control's, K", 2),
    ("lowest_level_humidity_ratio", "lowest-level humidity / control", 3),
    ("precipitation_ratio", "precipitation / control", 3),
)


def model_card(run: Path, contract: dict[str, Any], report: dict[str, Any], online: str, licence: str) -> str:
    """``MODEL_CARD.md``: what it replaces, what it learned from, how good and how fast it is, and where it ends.

    Args:
        run: run folder, or what was exported.
        contract, report: of the bundle.
        online: folder of a coupled run of this emulator; empty: ``coupled`` in the run folder, if it is there.
        licence: of the weights; empty: none is stated.

    Raises:
        SubgridError: ``online`` is no finished coupled run.
    """
    settings = contract["provenance"].get("settings", {})
    made = contract["provenance"].get("made_with", {})
    return fill(
        "MODEL_CARD.md.jinja",
        c=contract,
        report=report,
        settings=settings,
        store=_flat(made.get("store", {})),
        scores=_scores(run),
        online=_online(run, online),
        licence=licence,
    )


def _flat(store: dict[str, Any]) -> dict[str, str]:
    """Settings of the store, a line for each group of them; versions have their place in the contract."""
    found = {}
    for name, held in store.items():
        if name != "versions":
            parts = (f"{key} {value}" for key, value in held.items()) if isinstance(held, dict) else (str(held),)
            found[name] = ", ".join(parts)
    return found


def readme(contract: dict[str, Any]) -> str:
    """``README.md``: from the bundle to a driver that passes."""
    return fill("README.md.jinja", c=contract)


def _scores(run: Path) -> dict[str, Any] | None:
    """Offline scores of the run's own evaluation: R2 by variable, and residuals of the budgets."""
    if not (run / SCORES).is_file():
        return None
    held = read_record(run / SCORES, EVALUATION)
    emulator = held["models"]["emulator"]
    rows = [
        {"name": name, "units": about["units"], **{k: emulator[name][k] for k in ("r2", "rmse", "bias")}}
        for name, about in held["variables"].items()
    ]
    return {"split": held["split"], "samples": held["samples"], "rows": rows, "budgets": held.get("budgets") or {}}


def _online(run: Path, given: str) -> dict[str, Any] | None:
    """What a coupled run found; None: there is none."""
    folder = Path(given) if given else run / ONLINE
    if not (folder / "metrics.json").is_file():
        if given:
            raise SubgridError(f"online={given} is no finished coupled run: give its `subgrid couple` command again")
        return None
    config, metrics = read_record(folder / "config.json", COUPLED), read_json(folder / "metrics.json")
    if given and run.resolve() != Path(config["emulator"]).resolve():
        raise SubgridError(f"online={given} is a coupled run of {config['emulator']}, not of {run}")
    rows = [(words, f"{metrics[key]:.{digits}f}") for key, words, digits in TOLD if metrics.get(key) is not None]
    return {"data": Path(config["data"]).name, "rows": rows, **metrics}
