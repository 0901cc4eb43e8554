"""A movie of one field of a coupled run beside its control, a frame a day."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import only_writer, read_json, write_file
from subgrid.base.formats import COUPLED, read_record
from subgrid.base.progress import Progress
from subgrid.columns.store import open_store
from subgrid.coupling.compare import RAIN, SECONDS_PER_DAY, precipitation
from subgrid.coupling.run import CoupledRun
from subgrid.report.geography import Land, draw_map, land_of
from subgrid.report.style import colour_bar, panels, png, styled

#: Fields with a scale of their own: factor, units, colours. ``precipitation`` is the sum of both kinds.
SCALES = {
    "precipitation": (1.0, "mm/day", "YlGnBu"),
    "specific_humidity": (1e3, "g/kg", "YlGnBu"),
    "evaporation": (SECONDS_PER_DAY, "mm/day", "YlGnBu"),
    "column_water_vapour": (1.0, "kg/m²", "YlGnBu"),
    "temperature": (1.0, "K", "RdYlBu_r"),
}
#: Colours span these quantiles of the control.
QUANTILES = (0.01, 0.99)


def field_of(daily: xr.Dataset, name: str, level: int | None) -> NDArray[np.float64]:
    """One field of daily means, (time, column).

    Raises:
        UsageError: no such field, or a level where there is none or none where there are levels.
    """
    if name == "precipitation" and all(one in daily for one in RAIN):
        found = precipitation(daily)
    elif name in daily and "column" in daily[name].dims:
        found = daily[name]
    else:
        known = [str(one) for one in daily if "column" in daily[one].dims]
        raise unknown_name("field", name, ["precipitation", *known])
    if "level" in found.dims:
        levels = found.sizes["level"]
        if level is None or not 0 <= level < levels:
            raise UsageError(f"{name} has {levels} levels: choose one with --level 0 (the top) to {levels - 1}")
        found = found.isel(level=level)
    elif level is not None:
        raise UsageError(f"{name} has no levels: leave out --level")
    return np.asarray(found.values, np.float64)


def write_movie(
    run: Path | str, field: str, out: Path | str, level: int | None = None, every: int = 1, milliseconds: int = 120
) -> Path:
    """Write a GIF of a field of a coupled run beside the control.

    Args:
        run: a coupled run, or a run folder that holds one.
        field: a field of the daily means, or ``precipitation``.
        out: the file, ``.gif``.
        level: of a field with levels, 0 at the top.
        every: days from frame to frame.
        milliseconds: a frame is shown.

    Raises:
        UsageError: no such field or level, or another kind of file.
        SubgridError: no coupled run there, or no control.
    """
    folder, target = Path(run), Path(out)
    if target.suffix != ".gif":
        raise UsageError(f"{target} must end in .gif")
    if every < 1 or milliseconds < 20:
        raise UsageError(f"every={every} must be at least 1, milliseconds={milliseconds} at least 20")
    folder = folder / "coupled" if (folder / "coupled").is_dir() else folder
    if not (folder / "metrics.json").exists() or not (folder / "daily").exists():
        raise SubgridError(f"{folder} holds no finished coupled run")
    found = CoupledRun(folder, read_json(folder / "metrics.json"))
    days = found.metrics["days"]
    daily, control = found.daily.isel(time=slice(0, days)), found.control
    both = [field_of(one, field, level) for one in (daily, control)]
    store = open_store(read_record(folder / "config.json", COUPLED)["data"])
    land = land_of(store)
    factor, units, colours = SCALES.get(field, (1.0, "", "viridis"))
    low, high = (float(np.quantile(factor * both[1], q)) for q in QUANTILES)
    norm = Normalize(low, high if high > low else low + 1.0)
    name = field.replace("_", " ") + ("" if level is None else f", level {level}")
    frames = []
    with Progress("movie", len(range(0, days, every)), "frames") as bar:
        for day in range(0, days, every):
            date = str(daily["time"].values[day])[:10]
            values = [factor * one[day] for one in both]
            drawn = _frame(store.grid, values, norm, colours, f"{name} ({units})" if units else name, date, land)
            frames.append(Image.open(io.BytesIO(png(drawn, dpi=80))).convert("P", palette=Image.Palette.ADAPTIVE))
            bar.update(1)

    def save(file: Any) -> None:
        frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)

    with only_writer(target):
        write_file(target, save)
    return target


@styled
def _frame(
    grid: Any,
    values: list[NDArray[np.float64]],
    norm: Normalize,
    colours: str,
    label: str,
    date: str,
    land: Land | None,
) -> Figure:
    figure, axes = panels(2, 2, 3.3, False)
    for ax, field, title in zip(axes, values, ("Emulator", "Control"), strict=True):
        mesh = draw_map(ax, grid.latitude, grid.longitude, field, colours, norm, land)
        ax.set_title(f"{title}, {date}")
    axes[1].set_ylabel("")
    colour_bar(figure, mesh, axes, label, "both")
    return figure
