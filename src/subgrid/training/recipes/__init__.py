"""Recipes: what turns a network into a training run; one file and one YAML each."""

from subgrid.training.recipes.base import Recipe, RecipeConfig, recipe, recipe_names
from subgrid.training.recipes.confidence import Confidence
from subgrid.training.recipes.difference import Difference
from subgrid.training.recipes.expanded import Expanded
from subgrid.training.recipes.fifth_place_a import FifthPlaceA
from subgrid.training.recipes.fifth_place_b import FifthPlaceB
from subgrid.training.recipes.multirepresentation import Multirepresentation
from subgrid.training.recipes.standard import Standard

__all__ = [
    "Confidence",
    "Difference",
    "Expanded",
    "FifthPlaceA",
    "FifthPlaceB",
    "Multirepresentation",
    "Recipe",
    "RecipeConfig",
    "Standard",
    "recipe",
    "recipe_names",
]
