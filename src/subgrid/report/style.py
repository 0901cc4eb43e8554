"""How every figure looks: colours, fonts, axes of sigma and latitude; drawn with Agg, without pyplot."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any, ParamSpec, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

P = ParamSpec("P")

CONTROL = "#2b2f36"
EMULATOR = "#d55e00"
RIDGE = "#5b8fb9"
MEAN = "#9aa0a6"
GRID = "#d9dce1"
COAST = "#4a4f57"
#: Colour, line style and name of each source or model.
LOOKS: dict[str, dict[str, Any]] = {
    "control": {"color": CONTROL, "linestyle": "-", "label": "control (own physics)"},
    "emulator": {"color": EMULATOR, "linestyle": "-", "label": "emulator"},
    "ridge": {"color": RIDGE, "linestyle": "--", "label": "ridge regression"},
    "mean": {"color": MEAN, "linestyle": ":", "label": "training mean"},
}
#: Width of a full and of a smaller figure on a desktop, and of one on a phone, inches of 100 CSS pixels.
WIDE, MEDIUM, NARROW = 10.4, 7.4, 3.7
PIXELS_PER_INCH = 100
#: Steps between ticks, times powers of ten.
ROUND = [1, 2, 2.5, 5, 10]

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": "#7b818a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under :data:`RC`, leaving the caller's own settings alone."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(RC):  # type: ignore[arg-type]
            return draw(*args, **kwargs)

    return wrapped


def panels(
    count: int,
    columns: int,
    height: float,
    narrow: bool,
    narrow_height: float = 2.6,
    width: float = WIDE,
    ratios: list[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, ``columns`` abreast (one on a phone); heights in inches a row."""
    across = min(count, 1 if narrow else columns)
    rows = -(-count // across)
    each = narrow_height if narrow else height
    figure = Figure(figsize=(NARROW if narrow else width, each * rows), layout="constrained")
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.06, h_pad=0.06, wspace=0.04, hspace=0.04)  # type: ignore[call-arg]
    grid = figure.subplots(rows, across, squeeze=False, width_ratios=None if narrow else ratios)
    axes = [cast(Axes, ax) for ax in grid.flat]
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    with rc_context(RC):  # type: ignore[arg-type]
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def sigma_edges(sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boundaries of layers around their middles, 0 (top) to 1."""
    inner = 0.5 * (sigma[1:] + sigma[:-1])
    return np.concatenate([[0.0], inner, [1.0]])


def latitude_edges(latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boundaries of latitude rows, -90 to 90."""
    return np.concatenate([[-90.0], 0.5 * (latitude[1:] + latitude[:-1]), [90.0]])


def sigma_axis(ax: Axes, label: bool = True) -> None:
    """Sigma downwards: the top of the atmosphere is up."""
    ax.set_ylim(1.0, 0.0)
    ax.yaxis.set_major_locator(FixedLocator([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]))
    ax.set_ylabel("σ = p / surface pressure" if label else "σ")


def _degrees(value: float, positive: str, negative: str) -> str:
    return "0°" if value == 0 else f"{abs(value):.0f}°{positive if value > 0 else negative}"


def latitude_ticks(ax: Axes, axis: str = "x", step: int = 30) -> None:
    """Latitude from pole to pole on the axis ``x`` or ``y``."""
    target = ax.xaxis if axis == "x" else ax.yaxis
    target.set_major_locator(FixedLocator(list(range(-90, 91, step))))
    target.set_major_formatter(FuncFormatter(lambda v, _: _degrees(v, "N", "S")))
    if axis == "x":
        ax.set_xlim(-90, 90)
        ax.set_xlabel("latitude")
    else:
        ax.set_ylim(-90, 90)
        ax.set_ylabel("latitude")


def longitude_ticks(ax: Axes, step: int = 60) -> None:
    """Longitude from 180 W to 180 E."""
    ax.set_xlim(-180, 180)
    ax.xaxis.set_major_locator(FixedLocator(list(range(-180, 181, step))))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _degrees(v, "E", "W") if abs(v) < 180 else "180°"))
    ax.set_xlabel("longitude")


def few_ticks(ax: Axes, x: int = 5, y: int = 5) -> None:
    """At most so many round ticks on linear axes."""
    ax.xaxis.set_major_locator(MaxNLocator(x, steps=ROUND))
    ax.yaxis.set_major_locator(MaxNLocator(y, steps=ROUND))


def largest(values: NDArray[np.float64], quantile: float = 0.995) -> float:
    """The colour limit of a field: a high quantile of |values|, so that one cell does not hide the rest."""
    finite = np.abs(values[np.isfinite(values)])
    limit = float(np.quantile(finite, quantile)) if finite.size else 0.0
    return limit if limit > 0 else 1.0


def centred(values: NDArray[np.float64], quantile: float = 0.995) -> Normalize:
    """Colours symmetric about zero."""
    limit = largest(values, quantile)
    return Normalize(-limit, limit)


def extend_of(values: NDArray[np.float64], norm: Normalize) -> str:
    """Which ends of a colour bar need an arrow because values lie beyond it."""
    finite = values[np.isfinite(values)]
    low = bool(finite.size and norm.vmin is not None and finite.min() < norm.vmin * (1 - 1e-6) - 1e-30)
    high = bool(finite.size and norm.vmax is not None and finite.max() > norm.vmax * (1 + 1e-6) + 1e-30)
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[low, high]


def section(
    ax: Axes,
    latitude: NDArray[np.float64],
    sigma: NDArray[np.float64],
    values: NDArray[np.float64],
    colours: str | Colormap,
    norm: Normalize,
) -> Any:
    """A latitude-sigma field (level, latitude) as coloured cells; returns the mesh."""
    mesh = ax.pcolormesh(
        latitude_edges(latitude),
        sigma_edges(sigma),
        np.ma.masked_invalid(values),
        cmap=colours,
        norm=norm,
        rasterized=True,
    )
    ax.grid(False)
    ax.set_facecolor("#e6e8eb")
    latitude_ticks(ax, step=30)
    sigma_axis(ax, label=False)
    return mesh


def colour_bar(figure: Figure, mesh: Any, axes: Axes | list[Axes], label: str, extend: str = "neither") -> None:
    """A horizontal colour bar below the panels that it belongs to."""
    abreast = len(axes) if isinstance(axes, list) else 1
    bar = figure.colorbar(
        mesh,
        ax=axes,
        orientation="horizontal",
        extend=extend,
        extendfrac=0.05 / abreast,
        aspect=30 * abreast,
        pad=0.02,
        shrink=0.9,
    )
    bar.set_label(label)
    bar.ax.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND))
    bar.ax.tick_params(labelsize=9)
    bar.outline.set_linewidth(0.5)


def legend_above(figure: Figure, ax: Axes, columns: int) -> None:
    """One legend for all panels, above them."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=2.4)
