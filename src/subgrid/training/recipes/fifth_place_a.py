"""The recipe of family A of the fifth place of ClimSim's Kaggle competition."""

from __future__ import annotations

from subgrid.training.recipes.base import register
from subgrid.training.recipes.standard import Standard


@register("fifth_place_a")
class FifthPlaceA(Standard):
    """Huber's loss with delta 1 and every output alike; AdamW whose rate falls by steps.

    For ``architecture=fifth_place_a``. The settings are those of the base network; those of the network with engineered
    profiles are others (see ``docs/train.md``). Stochastic weight averaging, means of checkpoints and fine-tuning are
    settings of every recipe.
    """
