"""Starting: `subgrid --help` and `import subgrid`, beside a Python that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys

from common import emit, interleaved, measure, options

CASES = {
    "subgrid --help": ("from subgrid.cli.app import main; main()", 0.5),
    "import subgrid": ("import subgrid", 0.2),
}


def main() -> None:
    """Run each in a fresh interpreter, in turns."""
    chosen = options(__doc__)
    rounds = 2 if chosen.smoke else 15

    def work(program: str) -> None:
        subprocess.run([sys.executable, "-c", program, "--help"], check=True, stdout=subprocess.DEVNULL)

    with emit("start", chosen.smoke) as found:
        programs = ["pass", *(program for program, _ in CASES.values())]
        for program in programs:  # byte code and file cache
            work(program)
        floor, *walls = interleaved(rounds, *(lambda p=p: work(p) for p in programs))
        for (title, (_, goal)), wall in zip(CASES.items(), walls, strict=True):
            found.append(
                measure(
                    title,
                    statistics.median(wall),
                    "s",
                    statistics.median(floor),
                    "python -c pass",
                    at_most=goal,
                    judge="value",
                )
            )


if __name__ == "__main__":
    main()
