"""Figures of a training run."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from subgrid.report.style import CONTROL, EMULATOR, MEDIUM, legend_above, panels, styled


def curve(losses: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of the loss ``name``, where it was recorded."""
    held = [(float(e["epoch"]), float(e[name])) for e in losses if e.get(name) is not None]
    return [x for x, _ in held], [y for _, y in held]


@styled
def loss_curve(metrics: dict[str, Any], narrow: bool = False) -> Figure:
    """Training and validation loss by epoch, with the best epoch marked."""
    figure, (ax,) = panels(1, 1, 3.2, narrow, 3.1, width=MEDIUM)
    losses = metrics.get("losses") or []
    for name, colour, label in (
        ("train_loss_epoch", CONTROL, "training (mean over the epoch)"),
        ("val_loss", EMULATOR, "validation (end of the epoch)"),
    ):
        epochs, values = curve(losses, name)
        if values:
            ax.plot(epochs, values, color=colour, marker="o", markersize=4, label=label)
    epochs, values = curve(losses, "val_loss")
    if values:
        best = min(range(len(values)), key=values.__getitem__)
        ax.plot(
            epochs[best],
            values[best],
            marker="o",
            markersize=11,
            fillstyle="none",
            color=EMULATOR,
            label="weights kept",
            linestyle="none",
        )
    ax.set_yscale("log")
    shown = [v for name in ("train_loss_epoch", "val_loss") for v in curve(losses, name)[1]]
    if shown:
        _readable_log_ticks(ax, min(shown), max(shown))
        legend_above(figure, ax, 1 if narrow else 3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss (normalised)" if narrow else "loss on normalised outputs")
    return figure


def _readable_log_ticks(ax: Any, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis that may span less than a decade."""
    marks = [m * 10.0**k for k in range(-8, 6) for m in (1, 1.5, 2, 3, 4, 5, 7)]
    inside = [m for m in marks if low * 0.93 <= m <= high * 1.07]
    if len(inside) > 8:
        ax.yaxis.set_major_locator(LogLocator(numticks=6))
    else:
        ax.yaxis.set_major_locator(FixedLocator(inside))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
