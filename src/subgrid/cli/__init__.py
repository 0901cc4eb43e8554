"""Floor 9: the command line - parse, compose a config, call a function, print. Alone imports Typer and Hydra."""
