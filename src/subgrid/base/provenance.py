"""Where a result came from: settings, versions, machine."""

from __future__ import annotations

import platform
from dataclasses import asdict, is_dataclass
from importlib import metadata
from typing import Any

#: Packages whose versions decide a result.
PACKAGES = ("subgrid", "torch", "lightning", "jax", "jcm", "dinosaur", "numpy", "xarray", "zarr")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def provenance(**settings: Any) -> dict[str, Any]:
    """Settings (dataclasses become dicts) and versions, JSON-able."""
    plain = {
        key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for key, value in settings.items()
    }
    return {**plain, "versions": versions()}
