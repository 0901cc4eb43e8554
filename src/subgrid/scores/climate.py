"""Statistics of a climate: area and zonal means, weighted RMSE, histograms, spectra, bins; plain numpy."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subgrid.base.errors import SubgridError

FloatArray: TypeAlias = NDArray[np.float64]

LATITUDE_BANDS = tuple(range(-90, 91, 10))
"""Edges of the 10-degree bands in which climates are compared, degrees north."""


def area_mean(field: ArrayLike, area: ArrayLike) -> FloatArray:
    """Area-weighted mean over columns, ``sum_c a_c x_c / sum_c a_c``.

    Args:
        field: shape (..., column), any unit U; NaN spreads to the mean.
        area: area of columns, not negative, shape (column,), any unit.

    Returns:
        Mean, shape (...), U.

    Raises:
        SubgridError: shapes do not fit, or areas are negative, not finite or all zero.

    Source: definition.
    """
    values, weights = _columns(field, area)
    return np.asarray(values @ (weights / weights.sum()))


def zonal_mean(field: ArrayLike, latitude: ArrayLike, area: ArrayLike, edges: ArrayLike = LATITUDE_BANDS) -> FloatArray:
    """Area-weighted mean in latitude bands, ``sum_{c in band} a_c x_c / sum_{c in band} a_c``.

    Unstructured grids have no rows of equal latitude; bands work on all grids. A band holds its southern
    edge, and the last band its northern one too.

    Args:
        field: shape (..., column), any unit U; NaN spreads to its band.
        latitude: shape (column,), degrees north.
        area: area of columns, not negative, shape (column,), any unit.
        edges: increasing band edges, shape (band + 1,), degrees north.

    Returns:
        Mean, shape (..., band), U; NaN in bands without area.

    Raises:
        SubgridError: shapes do not fit, edges do not increase, or areas are unfit.

    Source: definition; 10-degree bands as in Yu et al. (2023) and Hu et al. (2024).
    """
    values, weights = _columns(field, area)
    latitudes = np.asarray(latitude, dtype=np.float64)
    if latitudes.shape != weights.shape:
        raise SubgridError(f"zonal mean: latitude {latitudes.shape} and area {weights.shape} differ in shape")
    band, n_bands = _bins(latitudes, edges)
    means = np.full((*values.shape[:-1], n_bands), np.nan)
    for k in range(n_bands):
        members = band == k
        if weights[members].sum() > 0:
            means[..., k] = area_mean(values[..., members], weights[members])
    return means


def weighted_rmse(a: ArrayLike, b: ArrayLike, weight: ArrayLike) -> float:
    """Root mean square difference, ``sqrt(sum w (a - b)^2 / sum w)`` over all dimensions.

    Args:
        a: any shape, any unit U.
        b: shape of ``a``, U.
        weight: not negative, broadcastable to ``a`` (area, or layer thickness times area), any unit.

    Returns:
        The difference, U; NaN where ``a`` or ``b`` holds NaN (a month after a crash).

    Raises:
        SubgridError: shapes do not fit, or weights are negative, not finite or all zero.

    Source: Hu et al. (2024, arXiv 2407.00124), monthly RMSE.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    weights = np.asarray(weight, dtype=np.float64)
    try:
        weights = np.broadcast_to(weights, first.shape)
    except ValueError as error:
        raise SubgridError(f"RMSE: weight {weights.shape} does not fit field {first.shape}") from error
    if first.shape != second.shape:
        raise SubgridError(f"RMSE: fields differ in shape, {first.shape} and {second.shape}")
    _check_weights(weights)
    return float(np.sqrt((weights * (first - second) ** 2).sum() / weights.sum()))


def histogram(field: ArrayLike, area: ArrayLike, edges: ArrayLike) -> FloatArray:
    """Share of area and time in each bin, ``f_k = sum_{x in bin k} a / sum a``.

    A bin holds its lower edge, and the last bin its upper one too. Values outside all bins count in the
    denominator, so that the shares add up to the part of the distribution that the bins cover; divide by
    ``np.diff(edges)`` for a density.

    Args:
        field: shape (..., column), the unit of ``edges`` (mm day-1 for precipitation); no NaN.
        area: area of columns, not negative, shape (column,), any unit.
        edges: increasing bin edges, shape (bin + 1,), the unit of ``field``; infinite ends are allowed.

    Returns:
        Shares, shape (bin,), 1.

    Raises:
        SubgridError: shapes do not fit, edges do not increase, areas are unfit, or the field holds NaN.

    Source: definition.
    """
    values, weights = _columns(field, area)
    if np.isnan(values).any():
        raise SubgridError("histogram: the field holds NaN; leave those times out")
    bins, n_bins = _bins(values.ravel(), edges)
    every_weight = np.broadcast_to(weights, values.shape).ravel()
    inside = (bins >= 0) & (bins < n_bins)
    shares = np.bincount(bins[inside], every_weight[inside], minlength=n_bins) / every_weight.sum()
    return np.asarray(shares, dtype=np.float64)


def zonal_spectrum(field: ArrayLike, area: ArrayLike) -> FloatArray:
    """Variance by zonal wavenumber, ``S_m = <2 |x_m|^2>`` for m >= 1 and ``<|x_0|^2>``, x_m the Fourier mean of a row.

    The sum over all wavenumbers is the mean square of the field; ``<.>`` is the area-weighted mean over latitudes, and
    over everything before.

    Args:
        field: shape (..., longitude, latitude) on equally spaced longitudes, any unit U; no NaN.
        area: area of columns of each latitude, not negative, shape (latitude,), any unit.

    Returns:
        Variance, shape (longitude // 2 + 1,), U2.

    Raises:
        SubgridError: shapes do not fit, areas are unfit, or the field holds NaN.

    Source: Parseval's theorem.
    """
    values, weights = _columns(field, area)
    if values.ndim < 2 or np.isnan(values).any():
        raise SubgridError("spectrum: the field must end in longitudes and latitudes and hold no NaN")
    n = values.shape[-2]
    power = np.abs(np.fft.rfft(values, axis=-2) / n) ** 2
    power[..., 1 : (n + 1) // 2, :] *= 2.0  # wavenumbers that stand for two
    found = area_mean(power, weights)
    return np.asarray(found.reshape(-1, found.shape[-1]).mean(0))


def rain_bins(rain: ArrayLike, area: ArrayLike, dry: float, count: int) -> FloatArray:
    """Edges of a bin without rain and of ``count`` bins that share the rainy area equally, shape (count + 2,).

    Args:
        rain: shape (..., column), any unit U; no NaN.
        area: area of columns, shape (column,), any unit.
        dry: less is no rain, U.
        count: bins of rain.

    Raises:
        SubgridError: shapes do not fit, areas are unfit, or it rains nowhere.

    Source: the rain-percentile bins of Hu et al. (2024, arXiv 2407.00124) and arXiv 2511.20963.
    """
    values, weights = _columns(rain, area)
    wet = values >= dry
    if not wet.any():
        raise SubgridError("rain bins: it rains nowhere")
    amounts = values[wet]
    order = np.argsort(amounts)
    reached = np.cumsum(np.broadcast_to(weights, values.shape)[wet][order])
    inner = [amounts[order][np.searchsorted(reached, share * reached[-1])] for share in np.arange(1, count) / count]
    return np.concatenate([[-np.inf, dry], inner, [np.inf]])


def mean_in_bins(field: ArrayLike, by: ArrayLike, area: ArrayLike, edges: ArrayLike) -> FloatArray:
    """Area-weighted mean of ``field`` where ``by`` lies in each bin.

    Args:
        field: shape (time, level, column), any unit U.
        by: shape (time, column), the unit of ``edges``.
        area: shape (column,), any unit.
        edges: shape (bin + 1,), not decreasing.

    Returns:
        Means, shape (bin, level), U; NaN in bins without any.

    Raises:
        SubgridError: shapes do not fit, or areas are unfit.

    Source: definition.
    """
    values, weights = _columns(field, area)
    chosen, limits = np.asarray(by, np.float64), np.asarray(edges, np.float64)
    if values.ndim != 3 or chosen.shape != (values.shape[0], values.shape[2]):
        raise SubgridError(f"means in bins: field {values.shape} and {chosen.shape} do not fit")
    found = np.full((len(limits) - 1, values.shape[1]), np.nan)
    for k in range(len(limits) - 1):
        inside = ((chosen >= limits[k]) & (chosen < limits[k + 1])) * weights
        if inside.sum() > 0:
            found[k] = np.einsum("tlc,tc->l", values, inside) / inside.sum()
    return found


def _columns(field: ArrayLike, area: ArrayLike) -> tuple[FloatArray, FloatArray]:
    values, weights = np.asarray(field, dtype=np.float64), np.asarray(area, dtype=np.float64)
    if weights.ndim != 1 or values.shape[-1:] != weights.shape:
        raise SubgridError(f"climate: field {values.shape} must end in the columns of area {weights.shape}")
    _check_weights(weights)
    return values, weights


def _check_weights(weights: FloatArray) -> None:
    if not (np.isfinite(weights) & (weights >= 0)).all() or weights.sum() <= 0:
        raise SubgridError("climate: weights must be finite, not negative, and not all zero")


def _bins(values: FloatArray, edges: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Index of the bin of each value (-1 below, ``n`` above all) and the number of bins."""
    limits = np.asarray(edges, dtype=np.float64)
    if limits.ndim != 1 or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise SubgridError("climate: edges must be at least two increasing numbers")
    n_bins = len(limits) - 1
    index = np.searchsorted(limits, values, side="right") - 1
    return np.where(values == limits[-1], n_bins - 1, index), n_bins
