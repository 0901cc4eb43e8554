"""Hybrid sigma-pressure levels: pressures, layer thickness and geopotential from surface pressure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from subgrid.base.errors import SubgridError
from subgrid.physics.arrays import Array, constant_like, namespace
from subgrid.physics.constants import E3SM, Constants

_LEAST_PRESSURE = 1e-6  # Pa; a logarithm below it is of a model top at zero pressure or of a padding row


def hybrid_pressure(ps: Array, a: Array, b: Array, p0: float) -> Array:
    """Pressure on hybrid levels, ``p = a p0 + b ps``.

    Args:
        ps: surface pressure, shape (...), Pa.
        a: pressure coefficients, shape (level,), 1; same kind of array as ``ps``.
        b: sigma coefficients, shape (level,), 1.
        p0: reference pressure, Pa.

    Returns:
        Pressure, shape (..., level), Pa. With ``a`` and ``b`` differenced between interfaces, the result
        is layer thickness.

    Raises:
        IndexError: ``ps`` is a Python number rather than an array.

    Source: Simmons and Burridge (1981), Mon. Wea. Rev. 109, 758, in the normalised form of CAM and EAM.

    A module that moves between devices keeps ``a`` and ``b`` in buffers and calls this;
    :class:`VerticalGrid` builds them on each call.
    """
    return a * p0 + b * ps[..., None]


@dataclass(frozen=True)
class VerticalGrid:
    """Hybrid levels of one model, level 0 at the top, interface k above layer k.

    Args:
        hyam: pressure coefficient at layer middles, length ``n_levels``, 1.
        hybm: sigma coefficient at layer middles, length ``n_levels``, 1.
        hyai: pressure coefficient at interfaces, length ``n_levels + 1``, 1.
        hybi: sigma coefficient at interfaces, length ``n_levels + 1``, 1.
        p0: reference pressure, Pa.

    Raises:
        SubgridError: lengths do not fit, numbers are not finite, sigma leaves 0..1, or pressure does not
            increase strictly from level 0 (the top) down.

    Source: Simmons and Burridge (1981); names as in CAM, EAM and ClimSim files.
    """

    hyam: tuple[float, ...]
    hybm: tuple[float, ...]
    hyai: tuple[float, ...]
    hybi: tuple[float, ...]
    p0: float

    def __post_init__(self) -> None:
        for name in ("hyam", "hybm", "hyai", "hybi"):
            object.__setattr__(self, name, _floats(name, getattr(self, name)))
        object.__setattr__(self, "p0", _floats("p0", [self.p0])[0])
        if self.p0 <= 0:
            raise SubgridError(f"vertical grid: p0 must be a positive pressure in Pa, not {self.p0}")
        _check_lengths(self)
        _check_order(self)

    @classmethod
    def hybrid(
        cls,
        hyai: Sequence[float],
        hybi: Sequence[float],
        hyam: Sequence[float] | None = None,
        hybm: Sequence[float] | None = None,
        p0: float = 1.0e5,
    ) -> VerticalGrid:
        """A grid from interface coefficients; layer middles default to the mean of their interfaces.

        Args:
            hyai: pressure coefficients at interfaces, shape (level + 1,), 1.
            hybi: sigma coefficients at interfaces, shape (level + 1,), 1.
            hyam: pressure coefficients at middles, shape (level,), 1, or None.
            hybm: sigma coefficients at middles, shape (level,), 1, or None.
            p0: reference pressure, Pa.

        Returns:
            The grid.

        Raises:
            SubgridError: the coefficients do not describe levels ordered from the top down.

        Source: Simmons and Burridge (1981).
        """
        a, b = _floats("hyai", hyai), _floats("hybi", hybi)
        return cls(
            hyam=_middles(a) if hyam is None else _floats("hyam", hyam),
            hybm=_middles(b) if hybm is None else _floats("hybm", hybm),
            hyai=a,
            hybi=b,
            p0=p0,
        )

    @classmethod
    def sigma(cls, boundaries: Sequence[float], p0: float = 1.0e5) -> VerticalGrid:
        """A pure sigma grid, ``p = sigma ps``, with middles halfway between boundaries (SPEEDY).

        Args:
            boundaries: sigma at interfaces from the top (0) to the surface (1), shape (level + 1,), 1.
            p0: reference pressure for labels and orderings, Pa.

        Returns:
            The grid.

        Raises:
            SubgridError: boundaries do not increase, or leave 0..1.

        Source: Phillips (1957); Molteni (2003) for SPEEDY's middles.
        """
        return cls.hybrid([0.0] * len(boundaries), boundaries, p0=p0)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VerticalGrid:
        """The grid that :meth:`to_dict` described.

        Args:
            values: mapping with exactly the keys hyam, hybm, hyai, hybi (lists of numbers) and p0 (Pa).

        Returns:
            The grid.

        Raises:
            SubgridError: a key is missing or unknown, or the values are not a valid grid.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            missing, extra = sorted(names - set(values)), sorted(set(values) - names)
            raise SubgridError(f"vertical grid: missing keys {missing}, unknown keys {extra}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The grid as JSON-able lists and numbers; exact through JSON.

        Returns:
            Mapping with keys hyam, hybm, hyai, hybi and p0.
        """
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def n_levels(self) -> int:
        """Number of layers."""
        return len(self.hyam)

    @property
    def sigma_levels(self) -> tuple[float, ...]:
        """Nominal sigma of layer middles, ``hyam + hybm``: p / ps where ps = p0; length ``n_levels``, 1."""
        return tuple(a + b for a, b in zip(self.hyam, self.hybm, strict=True))

    @property
    def sigma_thickness(self) -> tuple[float, ...]:
        """Share of each layer in the mass of a column whose surface pressure is p0, length ``n_levels``, 1."""
        whole = tuple(a + b for a, b in zip(self.hyai, self.hybi, strict=True))
        return tuple(below - above for above, below in pairwise(whole))

    def nearest_level(self, sigma: float) -> int:
        """Index of the layer whose nominal sigma is nearest to ``sigma`` (the upper one of a tie).

        Args:
            sigma: p / ps sought, 0..1.

        Returns:
            Level index, 0 = top.

        Raises:
            SubgridError: ``sigma`` is outside 0..1 (a pressure in hPa, perhaps).
        """
        if not 0.0 <= sigma <= 1.0:
            raise SubgridError(f"nearest level: sigma must lie in 0..1, not {sigma}; divide pressure by p0")
        distances = [abs(level - sigma) for level in self.sigma_levels]
        return distances.index(min(distances))

    def interface_pressure(self, ps: Array) -> Array:
        """Pressure at layer interfaces, ``hyai p0 + hybi ps``.

        Args:
            ps: surface pressure, shape (...), Pa.

        Returns:
            Pressure, shape (..., level + 1), Pa.

        Raises:
            TypeError: ``ps`` is not an array.

        Source: Simmons and Burridge (1981).
        """
        return hybrid_pressure(ps, constant_like(self.hyai, ps), constant_like(self.hybi, ps), self.p0)

    def mid_pressure(self, ps: Array) -> Array:
        """Pressure at layer middles, ``hyam p0 + hybm ps``.

        Args:
            ps: surface pressure, shape (...), Pa.

        Returns:
            Pressure, shape (..., level), Pa.

        Raises:
            TypeError: ``ps`` is not an array.

        Source: Simmons and Burridge (1981).
        """
        return hybrid_pressure(ps, constant_like(self.hyam, ps), constant_like(self.hybm, ps), self.p0)

    def layer_thickness(self, ps: Array) -> Array:
        """Pressure thickness of layers, ``dp[k] = p_interface[k + 1] - p_interface[k]``.

        Coefficients are differenced in float64 first, so that float32 keeps its full relative precision.

        Args:
            ps: surface pressure, shape (...), Pa.

        Returns:
            Thickness, shape (..., level), Pa.

        Raises:
            TypeError: ``ps`` is not an array.

        Source: Simmons and Burridge (1981).
        """
        a = constant_like(_differences(self.hyai), ps)
        b = constant_like(_differences(self.hybi), ps)
        return hybrid_pressure(ps, a, b, self.p0)


def hydrostatic_geopotential(
    t: Array, q: Array, ps: Array, phis: Array, grid: VerticalGrid, constants: Constants = E3SM
) -> Array:
    """Geopotential at layer middles of a column in hydrostatic balance.

    With ``Tv = T (1 + (Rv / Rd - 1) q)`` and interfaces below (+) and above (-) each layer,
    ``Phi[k] = phis + sum_{j > k} Rd Tv[j] ln(p+[j] / p-[j]) + Rd Tv[k] ln(p+[k] / p[k])``; exact where Tv is
    constant in each layer.

    Args:
        t: temperature, shape (..., level), K.
        q: specific humidity, shape (..., level), kg kg-1.
        ps: surface pressure, shape (...), Pa.
        phis: surface geopotential, shape (...), m2 s-2.
        grid: the levels.
        constants: constants of the host.

    Returns:
        Geopotential, shape (..., level), m2 s-2; finite on padding rows (ps = 0).

    Raises:
        TypeError: numpy and torch are mixed.
        ValueError: shapes do not broadcast (RuntimeError from torch).

    Source: Simmons and Burridge (1981), with the model's own middles in place of their alpha.
    """
    xp = namespace(t, q, ps, phis)
    interfaces = xp.clip(grid.interface_pressure(ps), _LEAST_PRESSURE)
    middles = xp.clip(grid.mid_pressure(ps), _LEAST_PRESSURE)
    scale = constants.Rd * t * (1.0 + (constants.Rv / constants.Rd - 1.0) * q)
    # the top layer's own depth, infinite where the model top is at zero pressure, is never added
    depths = scale[..., 1:] * xp.log(interfaces[..., 2:] / interfaces[..., 1:-1])
    from_surface = xp.flip(xp.cumulative_sum(xp.flip(depths, axis=-1), axis=-1), axis=-1)
    below = xp.concat([from_surface, xp.zeros_like(t[..., :1])], axis=-1)
    return phis[..., None] + below + scale * xp.log(interfaces[..., 1:] / middles)


def _floats(name: str, values: Sequence[float]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise SubgridError(f"vertical grid: {name} must be a list of numbers ({error})") from error
    if not all(math.isfinite(number) for number in numbers):
        raise SubgridError(f"vertical grid: {name} holds values that are not finite")
    return numbers


def _middles(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(0.5 * (upper + lower) for upper, lower in pairwise(values))


def _differences(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(lower - upper for upper, lower in pairwise(values))


def _check_lengths(grid: VerticalGrid) -> None:
    lengths = {name: len(getattr(grid, name)) for name in ("hyam", "hybm", "hyai", "hybi")}
    n = lengths["hyam"]
    if n < 1 or lengths != {"hyam": n, "hybm": n, "hyai": n + 1, "hybi": n + 1}:
        raise SubgridError(f"vertical grid: n middles need n + 1 interfaces (n >= 1), not lengths {lengths}")


def _check_order(grid: VerticalGrid) -> None:
    interfaces = [a + b for a, b in zip(grid.hyai, grid.hybi, strict=True)]
    if interfaces[0] > interfaces[-1]:
        raise SubgridError("vertical grid: level 0 must be the top of the model; reverse the coefficients")
    for k, (upper, lower) in enumerate(pairwise(interfaces)):
        if not upper < lower:
            raise SubgridError(f"vertical grid: pressure must increase downwards across layer {k}")
        if not upper <= grid.sigma_levels[k] <= lower:
            raise SubgridError(f"vertical grid: the middle of layer {k} lies outside its interfaces")
    outside = min(grid.hybi[0], interfaces[0]) < 0.0 or grid.hybi[-1] > 1.0
    if outside or any(lower < upper for upper, lower in pairwise(grid.hybi)):
        raise SubgridError("vertical grid: sigma coefficients must rise from the top down within 0..1")
