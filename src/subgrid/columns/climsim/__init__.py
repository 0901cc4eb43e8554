"""ClimSim as it is published: names of its files, and their download."""
