"""The recipe of family B of the fifth place of ClimSim's Kaggle competition."""

from __future__ import annotations

from typing import Any, ClassVar

from subgrid.training.recipes.base import register
from subgrid.training.recipes.standard import Standard


@register("fifth_place_b")
class FifthPlaceB(Standard):
    """L1 and a little squared error of two stores at once, on pooled inputs, with an exponential average of weights.

    L = L1 + 0.08 MSE of the columns of ``data``, and 0.3 L1 + 0.0005 MSE of those of ``data2`` (published: low- and
    high-resolution columns), where there is one. For ``architecture=fifth_place_b``.
    """

    emulator: ClassVar[dict[str, Any]] = {"inputs": "raw", "normalization": "pooled"}
