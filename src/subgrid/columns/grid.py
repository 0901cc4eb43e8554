"""The columns' places on the sphere and their vertical grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.physics.vertical import VerticalGrid


@dataclass(frozen=True)
class ColumnGrid:
    """Where columns are.

    Args:
        latitude: degrees north, (column,) float64.
        longitude: degrees east, (column,) float64.
        area: solid angle in sr, (column,) float64, positive.
        vertical: the vertical grid (level 0 = top).
        shape: ``(longitudes, latitudes)`` if columns are a flattened regular grid (latitude fastest), else None.

    Raises:
        SubgridError: lengths differ, areas are not positive, or ``shape`` does not fit.
    """

    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    area: NDArray[np.float64]
    vertical: VerticalGrid
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        sizes = {self.latitude.shape, self.longitude.shape, self.area.shape}
        if len(sizes) != 1 or self.latitude.ndim != 1:
            raise SubgridError(f"grid: latitude, longitude and area must be 1-D of one length, got {sizes}")
        if not (np.all(np.isfinite(self.area)) and np.all(self.area > 0)):
            raise SubgridError("grid: areas must be finite and positive")
        if self.shape is not None and int(np.prod(self.shape)) != self.columns:
            raise SubgridError(f"grid: shape {self.shape} does not hold {self.columns} columns")

    @property
    def columns(self) -> int:
        """Number of columns."""
        return int(self.latitude.size)

    @property
    def levels(self) -> int:
        """Number of levels."""
        return self.vertical.n_levels

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form (float64 survives JSON exactly), read back by :meth:`from_dict`."""
        return {
            "latitude": self.latitude.tolist(),
            "longitude": self.longitude.tolist(),
            "area": self.area.tolist(),
            "vertical": self.vertical.to_dict(),
            "shape": list(self.shape) if self.shape else None,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ColumnGrid:
        """Rebuild from :meth:`to_dict`; raises :class:`SubgridError` for malformed content."""
        try:
            shape = values.get("shape")
            return cls(
                latitude=np.asarray(values["latitude"], np.float64),
                longitude=np.asarray(values["longitude"], np.float64),
                area=np.asarray(values["area"], np.float64),
                vertical=VerticalGrid.from_dict(values["vertical"]),
                shape=(int(shape[0]), int(shape[1])) if shape else None,
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise SubgridError(f"malformed grid description: {error}") from error
