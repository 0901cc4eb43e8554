"""Tests of ClimSim's files: a package, as its files share :mod:`.files`."""
