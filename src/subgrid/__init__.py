"""subgrid."""
