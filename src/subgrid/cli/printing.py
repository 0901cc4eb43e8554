"""What every verb shares: how its words and its run are given, and how its result is printed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

Words = Annotated[list[str] | None, typer.Argument(help="key=value settings", show_default=False)]
Run = Annotated[str, typer.Argument(help="run folder, emulator folder, or published TorchScript")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def verbs(about: str) -> typer.Typer:
    """An empty group of verbs."""
    return typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)


def say(result: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """Print a result: as JSON, or its lines for a reader."""
    print(json.dumps(result, indent=2) if as_json else "\n".join(lines))
