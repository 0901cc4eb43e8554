"""Every figure function: a Figure with labelled axes, on desktop and phone, also from awkward data."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from subgrid.report import climate, offline, online, training
from subgrid.report.geography import Land, lattice
from subgrid.report.style import EMULATOR, NARROW, RC, WIDE, latitude_edges, png, sigma_edges

from .builder import comparison, coupled_metrics, grid, scores, sections

LOSSES = {"losses": [{"epoch": 1, "train_loss_epoch": 0.5, "val_loss": 0.4}, {"epoch": 2, "train_loss_epoch": 0.3}]}
LAND = Land(grid().latitude, grid().longitude, (grid().longitude > 180).astype(float))
FIGURES = {
    "loss": lambda narrow: training.loss_curve(LOSSES, narrow),
    "r2": lambda narrow: offline.r2_profiles(scores(), narrow),
    "errors": lambda narrow: offline.error_profiles(scores(), narrow),
    "sections": lambda narrow: offline.cross_sections(scores(), sections(), narrow),
    "series": lambda narrow: online.global_series(comparison(), narrow),
    "zonal": lambda narrow: online.zonal_bias(comparison(), narrow),
    "rmse": lambda narrow: online.rmse_series(comparison(), narrow),
    "maps": lambda narrow: online.precipitation_maps(comparison(), LAND, narrow),
    "histogram": lambda narrow: online.precipitation_histogram(comparison(), narrow),
    "budgets": lambda narrow: online.budget_series(comparison(), narrow),
    "distances": lambda narrow: climate.distances(comparison(), narrow),
    "months": lambda narrow: climate.months(comparison(), narrow),
    "rain-latitude": lambda narrow: climate.rain_by_latitude(comparison(), narrow),
    "rain-surface": lambda narrow: climate.rain_by_surface(comparison(), narrow),
    "moistening": lambda narrow: climate.moistening(comparison(), narrow),
    "spectra": lambda narrow: climate.spectra(comparison(), narrow),
    "outside": lambda narrow: climate.outside(comparison(), narrow),
    "cost": lambda narrow: online.step_cost(coupled_metrics()["step_ms"], narrow),
}


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_panel_is_labelled(name, narrow):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name](narrow)
    assert dict(matplotlib.rcParams) == before, "the caller's settings were changed"
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == NARROW if narrow else figure.get_figwidth() <= WIDE
    for ax in figure.axes:
        assert ax.get_xlabel() or ax.get_ylabel() or ax.get_title()
    assert any(ax.get_xlabel() for ax in figure.axes)
    assert any(ax.get_ylabel() for ax in figure.axes)
    assert png(figure, dpi=40).startswith(b"\x89PNG")


def test_text_is_never_tiny():
    sizes = [RC[key] for key in RC if key.endswith("size")]
    assert min(sizes) >= 9


def test_sigma_points_down_and_latitude_spans_the_globe():
    figure = online.zonal_bias(comparison())
    panel = figure.axes[0]
    assert panel.get_ylim() == (1.0, 0.0)
    assert panel.get_xlim() == (-90.0, 90.0)


def test_bias_colours_are_centred():
    figure = online.zonal_bias(comparison())
    for ax in figure.axes[:3]:
        low, high = ax.collections[0].get_clim()
        assert low == -high


def test_pair_of_maps_shares_its_colours():
    figure = online.precipitation_maps(comparison())
    first, second, third = (ax.collections[0].get_clim() for ax in figure.axes[:3])
    assert first == second
    assert third[0] == -third[1]


def test_profiles_that_hardly_vary_are_not_drawn():
    assert offline.varying_profiles(scores()) == ["temperature_tendency", "specific_humidity_tendency"]


def test_emulator_is_drawn_where_its_scores_are():
    figure = offline.r2_profiles(scores())
    line = next(line for line in figure.axes[0].lines if line.get_color() == EMULATOR)
    expected = offline.level_values(scores(), "emulator", "temperature_tendency", "r2")
    np.testing.assert_array_equal(line.get_xdata(), expected)
    np.testing.assert_allclose(line.get_ydata(), scores()["levels_sigma"])


def test_one_day_is_enough():
    short = comparison(days=1)
    for draw in (online.global_series, online.rmse_series, online.budget_series, online.precipitation_histogram):
        assert png(draw(short), dpi=40)


def test_negative_coupling_time_is_not_a_bar():
    step = coupled_metrics()["step_ms"] | {"coupling": -0.3, "coupled": 8.0}
    widths = [bar.get_width() for bar in online.step_cost(step).axes[0].patches]
    assert min(widths) >= 0


def test_columns_off_a_regular_grid_are_dots():
    data = comparison().isel(column=slice(0, 50))
    figure = online.precipitation_maps(data)
    assert figure.axes[0].collections[0].get_offsets().shape == (50, 2)


def test_lattice_puts_columns_where_they_are():
    places = grid()
    cells = lattice(places.latitude, places.longitude)
    assert cells is not None
    field = cells.field(places.latitude + 1000 * ((places.longitude + 180) % 360 - 180))
    np.testing.assert_allclose(field, cells.latitude[:, None] + 1000 * cells.longitude[None, :])


def test_edges_enclose_their_middles():
    np.testing.assert_allclose(sigma_edges(np.array([0.2, 0.6])), [0.0, 0.4, 1.0])
    np.testing.assert_allclose(latitude_edges(np.array([-45.0, 45.0])), [-90, 0, 90])


def test_column_rmse_by_hand():
    found = online.column_rmse(np.array([[3.0, 1.0]]), np.array([0.25, 0.75]))
    np.testing.assert_allclose(found, np.sqrt(5.0))
