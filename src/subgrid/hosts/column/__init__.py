"""A single-column radiative-convective host: many independent moist columns, seconds a year."""
