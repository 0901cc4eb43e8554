"""What may leave the house: finished runs."""

from __future__ import annotations

from pathlib import Path

from subgrid.base.errors import SubgridError
from subgrid.base.formats import RUN, read_record
from subgrid.emulator.files import require_emulator


def require_finished(run: Path | str) -> None:
    """Raise :class:`SubgridError` if ``run`` is a run folder whose training has not finished, or holds no emulator."""
    run = Path(run)
    begun = (run / "config.json").is_file() and not (run / "metrics.json").is_file()
    if begun and not (run / "blend.json").is_file():
        read_record(run / "config.json", RUN)
        raise SubgridError(f"{run} is not finished: give its `subgrid train` command again first")
    require_emulator(run)
