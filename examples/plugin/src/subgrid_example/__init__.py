"""Adds to subgrid from outside: an architecture, a recipe, a variable set and a host."""
