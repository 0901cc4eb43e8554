"""Verbs of sweeps: ``subgrid sweep KEY=A,B ...`` (which is ``sweep run``) and ``subgrid sweep status DIR``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from subgrid.cli.printing import Json, Words, say


class _Words(TyperGroup):
    """A group whose verb ``run`` need not be said before settings and options."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """``key=value`` stands for ``run key=value``."""
        return super().resolve_command(ctx, ["run", *args] if "=" in args[0] else args)


sweep = typer.Typer(
    help="Many training runs: lists of settings, in processes or on SLURM.",
    no_args_is_help=True,
    rich_markup_mode=None,
    cls=_Words,
)


@sweep.command("run")
def run(words: Words = None, as_json: Json = False) -> None:
    """Train and evaluate every combination of comma lists of settings of `train`; finished cells are skipped.

    Example: subgrid sweep data=store.zarr out=sweep architecture=mlp,unet recipe=standard,confidence seed=7,43
    """
    from subgrid.cli.verbs import sweep_settings
    from subgrid.workflows.sweep import run_sweep, status_lines

    status = run_sweep(*sweep_settings(words or []))
    say(status, as_json, status_lines(status))


@sweep.command("status")
def status(
    folder: Annotated[str, typer.Argument(help="the sweep's out=")],
    as_json: Json = False,
) -> None:
    """Show which cells are finished, running, waiting or failed, with scores and errors.

    Example: subgrid sweep status sweep
    """
    from subgrid.workflows.sweep import status_lines, sweep_status

    found = sweep_status(folder)
    say(found, as_json, status_lines(found))
