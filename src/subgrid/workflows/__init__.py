"""Floor 8: the demo and the studies - plain functions that chain the rooms below."""
