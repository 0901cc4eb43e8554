"""The system of Lorenz (1996), one- or two-scale: many independent rings, seconds a year."""
