"""The sections of the page: sentences, figures and tables, each made from the results that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from subgrid.base.errors import SubgridError
from subgrid.report import offline, online, training
from subgrid.report.blocks import Drawing, Section, Table, drawing
from subgrid.report.climate_section import climate_drawings, left_table, shadow_table
from subgrid.report.literature_section import literature_section
from subgrid.report.results import Record, Results
from subgrid.report.sureness_section import sureness_section
from subgrid.report.words import (
    NOTHING,
    count,
    duration,
    extreme,
    fixed,
    listed,
    short,
    size,
    stable,
    units,
    verdict,
)

COUNTERS = {
    "inputs_clipped": ("Inputs outside the training range, clipped", 100.0, "%"),
    "outputs_clipped": ("Outputs outside the training range, clipped", 100.0, "%"),
    "condensed_water": ("Water condensed by the constraint", 86400.0, "mm/day"),
    "tropopause": ("Moistening above the tropopause taken away", 86400.0, "mm/day"),
    "top": ("Tendencies at the model top set to zero", 100.0, "%"),
    "limit_heating": ("Heating beyond its limit, summed over levels", 86400.0, "K/day"),
    "limit_moistening": ("Moistening beyond its limit, summed over levels", 8.64e7, "g/kg/day"),
    "limit_acceleration": ("Acceleration beyond its limit, summed over levels", 86400.0, "m/s/day"),
    "night": ("Sunlight at night taken away", 1.0, "W/m²"),
    "positive_water": ("Drying refused because a layer held too little water", 86400.0, "mm/day"),
}


def sections(results: Results) -> list[Section]:
    """Every section that ``results`` can fill, in the order of the page.

    Raises:
        SubgridError: a result lacks what its section needs.
    """
    makers = (
        training_section,
        offline_section,
        literature_section,
        sureness_section,
        online_section,
        cost_section,
        export_section,
        reproduce_section,
    )
    found = []
    for make in makers:
        try:
            found.append(make(results))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            part = make.__name__.removesuffix("_section")
            raise SubgridError(
                f"{results.folder}: the {part} results are damaged or of another version ({error!r}); make them again"
            ) from error
    return [section for section in found if section is not None]


def training_section(results: Results) -> Section | None:
    """How the network learned."""
    metrics = results.training
    if metrics is None:
        return None
    lead = (
        f"{count(metrics.get('epochs'))} epochs of {count(metrics.get('columns_per_epoch'))} columns "
        f"({count(metrics.get('steps'))} steps) took {duration(metrics.get('seconds'))}. "
        f"The best validation loss is {short(metrics.get('best_val_loss'))}."
    )
    epochs, values = training.curve(metrics.get("losses") or [], "val_loss")
    blocks: list[Drawing | Table] = []
    if values:
        best = int(np.argmin(values))
        caption = (
            f"Loss on normalised outputs by epoch: validation went from {short(values[0])} to {short(values[best])} "
            f"(epoch {epochs[best]:g}, ringed, whose weights were kept); training below validation means that the "
            "network fits its own columns better than new ones; perturbed columns, where they are used, raise the "
            "training loss alone."
        )
        alt = "Training and validation loss by epoch"
        blocks.append(drawing("loss", alt, caption, lambda n: training.loss_curve(metrics, narrow=n)))
    return Section("training", "Training", [lead], blocks=blocks)


def offline_section(results: Results) -> Section | None:
    """Skill on held-out columns."""
    scores = results.scores
    if scores is None:
        return None
    lead = [
        f"Predictions for {count(scores.get('samples'))} columns of the split “{scores.get('split')}”, which training "
        "never saw, beside two floors: a ridge regression on the same inputs and the training mean.",
        "R² = 1 − squared error / squared departure from the split’s mean of the level, weighted by area and layer "
        "mass: 1 is perfect, 0 is no better than that mean. "
        f"{count(scores.get('constant_channels'))} output channels do not vary and are left out.",
    ]
    blocks: list[Drawing | Table] = [score_table(scores)]
    if offline.profile_names(scores):
        blocks.append(
            drawing(
                "r2-profiles",
                "R² by level for emulator, ridge regression and training mean",
                r2_caption(scores),
                lambda n: offline.r2_profiles(scores, narrow=n),
            )
        )
        blocks.append(
            drawing(
                "error-profiles",
                "RMSE and bias by level",
                "Root-mean-square error (RMSE) and mean error (bias) by level: nearer zero is better, the training "
                "mean’s RMSE is the natural variability, and a bias is the part of the error that does not average "
                "out.",
                lambda n: offline.error_profiles(scores, narrow=n),
            )
        )
    found = results.sections
    if found is not None and any(f"r2_{n}" in found for n in offline.main_profiles(scores)):
        blocks.append(
            drawing(
                "cross-sections",
                "Latitude-height sections of the true mean, the bias and R²",
                section_caption(scores, found),
                lambda n: offline.cross_sections(scores, found, narrow=n),
            )
        )
    residuals = residual_table(scores)
    if residuals is not None:
        blocks.append(residuals)
    return Section("offline", "Offline: held-out columns", lead, blocks=blocks)


def score_table(scores: Record) -> Table:
    """All scored variables."""
    models = scores["models"]
    rows = []
    for name, variable in scores["variables"].items():
        mine = models.get("emulator", {}).get(name, {})
        r2 = [fixed(models.get(m, {}).get(name, {}).get("r2")) for m in ("emulator", "ridge", "mean")]
        native = short(mine.get("mae"))
        native = native if native == NOTHING else f"{native} {units(variable.get('units', ''))}".strip()
        rows.append([offline.title_of(scores, name), *r2, native, fixed(mine.get("mae_energy"), 2)])
    header = ["Variable", "R² emulator", "R² ridge", "R² mean", "MAE emulator", "MAE (W/m²)"]
    caption = (
        "Scores of every predicted variable; MAE is the mean absolute error of the emulator, in its own units and, "
        "for what carries energy, in W/m² (profiles: per layer)."
    )
    return Table(caption, header, rows)


def residual_table(scores: Record) -> Table | None:
    """How well truth and emulator close the budgets of the host; None where the variables have none."""
    rows = []
    for name, budget in (scores.get("budgets") or {}).items():
        factor, unit = (86400.0, "mm/day") if budget["units"] == "kg/m2/s" else (1.0, units(budget["units"]))
        for who in ("truth", "emulator"):
            found = budget[who]
            told = [short(factor * found["mean"]), short(factor * found["rms"]), short(found["relative_max"])]
            rows.append([name.capitalize(), who, *(f"{value} {unit}" for value in told[:2]), told[2]])
    if not rows:
        return None
    caption = (
        "What columns create of energy and water, of the truth and of the emulator: a closed budget has none. The last "
        "column is the largest residual of a column relative to the sum of the sizes of its terms."
    )
    return Table(caption, ["Budget", "Of", "Mean", "RMS", "Largest, relative"], rows)


def r2_caption(scores: Record) -> str:
    """What the profiles of R2 show."""
    sigma = np.asarray(scores["levels_sigma"], np.float64)
    worst = []
    for name in offline.main_profiles(scores):
        values = offline.level_values(scores, "emulator", name, "r2")
        if values is not None and np.isfinite(values).any():
            k = int(np.nanargmin(values))
            title = offline.title_of(scores, name)
            worst.append(f"{fixed(values[k], 2)} for {title[:1].lower()}{title[1:]} (σ = {sigma[k]:.2f})")
    told = "R² by level, top of the atmosphere up: further right is better"
    if worst:
        told += f"; the emulator’s lowest values are {listed(worst)}"
    every = [
        offline.level_values(scores, model, name, "r2")
        for model in scores["models"]
        for name in offline.varying_profiles(scores)
    ]
    if any(v is not None and np.nanmin(v, initial=1.0) < offline.LEAST_R2 for v in every):
        told += f"; values below {fixed(offline.LEAST_R2, 2)} lie off the axis"
    return f"{told}."


def section_caption(scores: Record, found: Any) -> str:
    """What the cross-sections show."""
    worst = []
    for name in offline.main_profiles(scores):
        if f"bias_{name}" in found:
            factor, label = offline.display_units(str(scores["variables"][name].get("units", "")))
            values = factor * np.asarray(found[f"bias_{name}"].values, np.float64).T
            if np.isfinite(values).any():
                value, where = extreme(values, found["latitude"].values, found["sigma"].values)
                worst.append(f"{fixed(value, 2, signed=True)} {label} ({where})")
    told = (
        "Zonal and time means against latitude and height: the true tendency, the emulator’s mean error (colours "
        "centred at zero), and R² (darkest below zero, grey where nothing varies)"
    )
    return f"{told}; the largest mean errors are {listed(worst)}." if worst else f"{told}."


def online_section(results: Results) -> Section | None:
    """The coupled run."""
    metrics = results.coupled
    if metrics is None:
        return None
    lead = [
        "The emulator replaces all column physics of the host; the control is the host with its own physics from the "
        "same restart over the same days."
    ]
    blocks: list[Drawing | Table] = []
    if results.comparison is not None:
        blocks += coupled_drawings(results)
        window = count(metrics.get("window_days", results.comparison.attrs.get("window_days")))
        blocks += climate_drawings(results.comparison, window)
    tables = (period_table(metrics), shadow_table(metrics), left_table(metrics), counter_table(metrics))
    blocks += [table for table in tables if table is not None]
    return Section("online", "Online: the emulator inside the host", lead, verdict(metrics), stable(metrics), blocks)


def coupled_drawings(results: Results) -> list[Drawing | Table]:
    """The figures of a coupled run."""
    data, metrics = results.comparison, results.coupled or {}
    assert data is not None
    window = count(metrics.get("window_days", data.attrs.get("window_days")))
    found: list[tuple[bool, Callable[[], Drawing]]] = [
        (
            any(f"series_{name}" in data for name in online.SERIES),
            lambda: drawing(
                "series",
                "Global means by day, emulator and control",
                f"Global means of each day: lines that stay together show no drift, and the shaded last {window} days "
                "are those of the verdict; single days differ because weather is chaotic.",
                lambda n: online.global_series(data, narrow=n),
            ),
        ),
        (
            any(f"zonal_{name}" in data for name in online.ZONAL),
            lambda: drawing(
                "zonal-bias",
                "Zonal-mean differences between emulator and control",
                zonal_caption(data, window),
                lambda n: online.zonal_bias(data, narrow=n),
            ),
        ),
        (
            any(f"rmse_{name}" in data for name in ("temperature", "u_wind")),
            lambda: drawing(
                "rmse",
                "RMSE against the control by day",
                "Root-mean-square difference to the control by day: it grows while the two weathers diverge, as it "
                "would between two runs of the host itself, and should level off rather than go on growing.",
                lambda n: online.rmse_series(data, narrow=n),
            ),
        ),
        (
            "map_precipitation" in data,
            lambda: drawing(
                "precipitation-maps",
                "Maps of mean precipitation and of the difference",
                rain_caption(metrics, window),
                lambda n: online.precipitation_maps(data, results.land, narrow=n),
            ),
        ),
        (
            "histogram_precipitation" in data,
            lambda: drawing(
                "precipitation-histogram",
                "Histogram of daily precipitation",
                histogram_caption(data, window),
                lambda n: online.precipitation_histogram(data, narrow=n),
            ),
        ),
        (
            "budget_energy_residual" in data,
            lambda: drawing(
                "budgets",
                "Energy and water residuals by day",
                budget_caption(metrics),
                lambda n: online.budget_series(data, narrow=n),
            ),
        ),
    ]
    return [draw() for held, draw in found if held]


def zonal_caption(data: Any, window: str) -> str:
    """What the zonal biases show."""
    worst = []
    for name, (title, factor, label, _) in online.ZONAL.items():
        if f"zonal_{name}" in data:
            bias = factor * (
                online.of_source(data, f"zonal_{name}", "emulator") - online.of_source(data, f"zonal_{name}", "control")
            )
            if np.isfinite(bias).any():
                value, where = extreme(bias, data["latitude"].values, data["sigma"].values)
                worst.append(f"{title.lower()} {fixed(value, 2, signed=True)} {label} ({where})")
    told = f"Emulator minus control, zonal means of the last {window} days (colours), over the control (contours)"
    return f"{told}; largest: {listed(worst)}." if worst else f"{told}."


def rain_caption(metrics: Record, window: str) -> str:
    """What the maps of precipitation show."""
    told = (
        f"Mean precipitation of the last {window} days: the first two maps share one colour scale, the third is "
        "centred at zero (green is wetter than the control)"
    )
    ratio = metrics.get("precipitation_ratio")
    return f"{told}; the global mean is {fixed(ratio, 3)} times the control’s." if ratio is not None else f"{told}."


def histogram_caption(data: Any, window: str) -> str:
    """What the histogram shows."""
    told = (
        f"How much of the area and of the last {window} days has little rain (bars), and how often each daily amount "
        "falls (steps, logarithmic)"
    )
    dry = [100 * float(online.rain_shares(data, s)[0]) for s in ("emulator", "control")]
    edge = float(data["bin_left"].values[1])
    return (
        f"{told}: below {edge:g} mm/day are {fixed(dry[0], 0)}% with the emulator and {fixed(dry[1], 0)}% in the "
        "control; steps below the control’s at large amounts mean that heavy rain is missed."
    )


def budget_caption(metrics: Record) -> str:
    """What the residuals show."""
    told = "Energy and water that the column physics creates (above zero) or destroys, global mean"
    means = []
    for key, name in (("energy_residual_W_m2", "energy"), ("water_residual_W_m2", "water")):
        pair = metrics.get(key) or {}
        if pair:
            mine, control = fixed(pair.get("emulator"), 2, signed=True), fixed(pair.get("control"), 2, signed=True)
            means.append(f"{name} {mine} W/m² (control {control})")
    return f"{told}; over the run {listed(means)}." if means else f"{told}."


def period_table(metrics: Record) -> Table | None:
    """Drift by period."""
    periods = metrics.get("periods") or []
    rows = [
        [
            f"{p['first_day'] + 1}–{p['last_day']}",
            fixed(p.get("mid_troposphere_temperature_difference_K"), 2, signed=True),
            fixed(p.get("lowest_level_temperature_difference_K"), 2, signed=True),
            fixed(p.get("lowest_level_humidity_ratio")),
            fixed(p.get("precipitation_ratio")),
        ]
        for p in periods
    ]
    header = ["Days", "ΔT mid-troposphere (K)", "ΔT lowest level (K)", "Humidity ratio", "Precipitation ratio"]
    caption = (
        "Drift by period: differences are emulator − control and ratios emulator / control, from global means; a run "
        "that drifts shows values that grow from row to row."
    )
    return Table(caption, header, rows) if rows else None


def counter_table(metrics: Record) -> Table | None:
    """How often bounds and constraints acted."""
    rows = []
    for name, value in (metrics.get("counters") or {}).items():
        label, factor, unit = COUNTERS.get(name, (name.replace("_", " ").capitalize(), 1.0, ""))
        rows.append([label, f"{short(factor * value, 2)} {unit}".strip()])
    caption = "What the emulator’s bounds and constraints did, mean over columns and the whole run."
    return Table(caption, ["Bound or constraint", "Mean"], rows) if rows else None


def cost_section(results: Results) -> Section | None:
    """What a coupled step costs."""
    metrics = results.coupled or {}
    step = metrics.get("step_ms")
    if not step:
        return None
    ratio = step["coupled"] / step["own_physics"] if step.get("own_physics") else None
    lead = (
        f"A step with the emulator takes {short(step['coupled'])} ms, {fixed(ratio, 2)} times a step with the host’s "
        f"own physics ({short(step['own_physics'])} ms). "
        f"Coupled, the host simulates {short(metrics.get('simulated_years_per_day'))} years per day."
    )
    caption = (
        "Time of one step by part, after compilation: “coupling” is what remains of the coupled step beyond dynamics "
        "and network (gathering columns, bridging, scattering)"
    )
    if step["coupling"] < 0:
        caption += "; here it is below the noise of the measurement and not drawn"
    block = drawing(
        "step-cost",
        "Milliseconds per step by part",
        f"{caption}.",
        lambda n: online.step_cost(step, narrow=n),
    )
    return Section("cost", "Cost per step", [lead], blocks=[block])


def export_section(results: Results) -> Section | None:
    """The exported TorchScript against the emulator."""
    report = results.export
    if report is None:
        return None
    bundle = f"Bundle {report['name']} for {report['target']}. " if "target" in report else ""
    lead = (
        f"{bundle}{report.get('file', 'model.pt')} ({size(report.get('bytes'))}) maps {count(report.get('n_in'))} "
        f"inputs to {count(report.get('n_out'))} outputs per column. At the same batch size its largest difference to "
        f"the emulator is {short(report.get('same_batch'), 2)}; over all batch sizes "
        f"{short(report.get('max_relative_difference'), 2)}, in spreads of each output."
    )
    batches = report.get("batches") or {}
    rows = [[count(int(k)) if str(k).isdigit() else str(k), short(v, 2)] for k, v in batches.items()]
    caption = (
        "Largest difference between the exported model, called with so many columns at a time, and the emulator on all "
        "columns at once, in spreads of each output; rounding alone gives about 10⁻⁷ to 10⁻⁶."
    )
    blocks: list[Drawing | Table] = []
    if rows:
        blocks.append(Table(caption, ["Columns per call", "Largest difference"], rows))
    return Section("export", "Export", [lead], blocks=blocks)


def reproduce_section(results: Results) -> Section | None:
    """Commands, times and versions."""
    summary = results.summary or {}
    commands = [str(c) for c in summary.get("commands") or []]
    stages = summary.get("stages") or {}
    versions = _versions(results)
    if not (commands or stages or versions):
        return None
    lead = []
    if commands:
        lead.append("These commands make the results of this page again.")
    if summary.get("peak_memory_GiB") is not None:
        lead.append(f"Peak memory was {short(summary['peak_memory_GiB'])} GiB.")
    blocks: list[Drawing | Table] = []
    if stages:
        rows = [[str(name), duration(seconds)] for name, seconds in stages.items()]
        total = [float(s) for s in stages.values() if isinstance(s, (int, float))]
        blocks.append(Table("Wall time of each stage.", ["Stage", "Time"], [*rows, ["all", duration(sum(total))]]))
    if versions:
        blocks.append(Table("Software.", ["Package", "Version"], [[k, str(v)] for k, v in versions.items()]))
    return Section("reproduce", "How to reproduce", lead, blocks=blocks, code=commands)


def _versions(results: Results) -> Record:
    holders: Iterable[Record | None] = (
        results.summary,
        results.coupled,
        results.scores,
        results.provenance,
        (results.store or {}).get("provenance"),
    )
    return next((h["versions"] for h in holders if h and h.get("versions")), {})
