"""Recipes: what turns a network into a training run; one file and one YAML each."""

from subgrid.training.recipes.base import Recipe, RecipeConfig, recipe, recipe_names
from subgrid.training.recipes.standard import Standard

__all__ = ["Recipe", "RecipeConfig", "Standard", "recipe", "recipe_names"]
