"""Floor 6: recipes, losses, the Lightning task, fit and resume."""

from subgrid.training.fit import TrainConfig, fit
from subgrid.training.recipes import Recipe, recipe, recipe_names

__all__ = ["Recipe", "TrainConfig", "fit", "recipe", "recipe_names"]
