"""The LEAP/ClimSim competition's files: columns by name, weights, and their conversion to a column store."""
