"""The multirepresentation recipe: each input profile reaches the network in three normalisations."""

from __future__ import annotations

from typing import Any, ClassVar

from subgrid.training.recipes.base import register
from subgrid.training.recipes.standard import Standard


@register("multirepresentation")
class Multirepresentation(Standard):
    """Standard, on inputs per level, per variable, and as a signed logarithm (see `emulator.representations`)."""

    emulator: ClassVar[dict[str, Any]] = {"representation": "multi"}
