"""ClimSim's files below a folder: pairs before and after physics, the published splits, and what is missing of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.columns.climsim.names import GRID_SUFFIX, KINDS, parse_name, step_number, step_time


@dataclass(frozen=True)
class PublishedSplit:
    """One published split.

    Args:
        store_name: of the split in a store.
        first, after: (year, month) of its first month, and of the first month after it.
        stride: steps between its files.
        start: its first file, in steps from the start of ``first``.
    """

    store_name: str
    first: tuple[int, int]
    after: tuple[int, int]
    stride: int
    start: int = 0

    @property
    def steps(self) -> range:
        """The numbers of its steps (see :func:`~subgrid.columns.climsim.names.step_number`).

        Counted from the first step of its months, never from a place in a listing: so a folder that lacks files, or
        that was downloaded with this very stride, gives the same choice as a whole one. The published scripts count
        in a sorted listing and leave its last file out; on the whole set both agree save for that file.
        """
        first, after = (step_number(*month, 1, 0) for month in (self.first, self.after))
        return range(first + self.start, after, self.stride)


SPLITS = {
    "train": PublishedSplit("train", (1, 2), (8, 2), 7),
    "val": PublishedSplit("validation", (8, 2), (9, 2), 7),
    "scoring": PublishedSplit("scoring", (8, 2), (9, 2), 6),
    "test": PublishedSplit("test", (9, 3), (11, 3), 12, start=1),
    "test_stride7": PublishedSplit("test_stride7", (9, 3), (11, 3), 7),
}
ALL = "all"


def chosen_splits(words: str | Collection[str]) -> list[str]:
    """Names in :data:`SPLITS` that ``words`` ask for (a list, or one word with commas; ``all``: every one).

    Raises:
        UsageError: an unknown name, or none.
    """
    asked = [w.strip() for w in words.split(",")] if isinstance(words, str) else list(words)
    for word in asked:
        if word not in (*SPLITS, ALL):
            raise unknown_name("split of ClimSim", word, (*SPLITS, ALL))
    if not asked:
        raise UsageError(f"no split is asked for; there are {', '.join((*SPLITS, ALL))}")
    return [name for name in SPLITS if name in asked or ALL in asked]


@dataclass(frozen=True)
class Source:
    """What lies below a folder.

    Args:
        folder: the folder.
        files: path by step number, for each kind of file.
        duplicates: files whose step was found before, beside the one that was kept.
    """

    folder: Path
    files: Mapping[str, Mapping[int, Path]]
    duplicates: tuple[tuple[Path, Path], ...] = ()

    @property
    def before(self) -> Mapping[int, Path]:
        """Files before physics by step: ``mli``, or ``mlexpand`` where the source has those alone."""
        return self.files["mli"] or self.files["mlexpand"]

    @property
    def pairs(self) -> list[int]:
        """Steps with a file before and one after physics, in order."""
        return sorted(self.before.keys() & self.files["mlo"].keys())

    @property
    def unpaired(self) -> list[str]:
        """Names of the files that lack their other half, sorted."""
        before, after = self.before, self.files["mlo"]
        return sorted(
            [before[n].name for n in before.keys() - after.keys()]
            + [after[n].name for n in after.keys() - before.keys()]
        )


def find_files(folder: Path | str) -> Source:
    """ClimSim's files in ``folder``, in its sub-folders (months) and theirs (a whole dataset), read by name alone.

    Raises:
        SubgridError: no such folder, no file of ClimSim in it, or a name whose time is on no step.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SubgridError(f"{folder} is no folder: give the one that holds ClimSim's months or files")
    files: dict[str, dict[int, Path]] = {kind: {} for kind in KINDS}
    duplicates = []
    for path in sorted(path for within in ("", "*/", "*/*/") for path in folder.glob(f"{within}E3SM-MMF.*.nc")):
        kind, *time = parse_name(path.name)
        number = step_number(*time)
        if number in files[kind]:
            duplicates.append((files[kind][number], path))
        else:
            files[kind][number] = path
    if not any(files.values()):
        raise SubgridError(f"{folder} holds no file E3SM-MMF.*.nc, nor do its sub-folders")
    return Source(folder, files, tuple(duplicates))


def find_grid(folder: Path | str) -> Path:
    """The one file ``*grid-info.nc`` in ``folder``, in its sub-folders, or in a folder above.

    Raises:
        SubgridError: there is none, or more than one in the same place.
    """
    folder = Path(folder).resolve()
    for place, pattern in ((folder, "*"), (folder, "*/*"), *((above, "*") for above in list(folder.parents)[:2])):
        found = sorted(place.glob(f"{pattern}{GRID_SUFFIX}"))
        if len(found) > 1:
            raise SubgridError(f"{place} holds several grid files ({found[0].name}, {found[1].name}): name one, --grid")
        if found:
            return found[0]
    raise SubgridError(f"no file *{GRID_SUFFIX} in {folder} or above it: name the grid file, --grid FILE")


@dataclass(frozen=True)
class SplitPlan:
    """The steps of one split, and what is not there.

    Args:
        split: name in :data:`SPLITS`.
        steps: numbers of the steps to convert, in order.
        expected: how many steps the whole published split has.
        spanned: how many of them lie between the first and the last found.
        found: how many of them have a pair of files.
        missing: numbers of the steps of the split that lack a file between the first and the last found.
        without_history: how many were dropped because a step before them is not there.
        lost: how many were dropped because a file is damaged.
    """

    split: str
    steps: tuple[int, ...]
    expected: int
    spanned: int
    found: int
    missing: tuple[int, ...] = field(default=(), repr=False)
    without_history: int = 0
    lost: int = 0

    @property
    def store_name(self) -> str:
        """Name of the split in a store."""
        return SPLITS[self.split].store_name

    def summary(self) -> dict[str, object]:
        """JSON-able form; at most ten of the missing steps by date."""
        published = SPLITS[self.split]
        return {
            "published": self.split,
            "stride": published.stride,
            "start": published.start,
            "expected": self.expected,
            "found": self.found,
            "missing_between": len(self.missing),
            "first_missing": [step_name(n) for n in self.missing[:10]],
            "dropped_without_history": self.without_history,
            "dropped_lost": self.lost,
            "steps": len(self.steps),
        }


def step_name(number: int) -> str:
    """The date of a step as file names write it."""
    year, month, day, seconds = step_time(number)
    return f"{year:04d}-{month:02d}-{day:02d}-{seconds:05d}"


def plan_split(
    source: Source, name: str, needs: Collection[tuple[int, str]], lost: Collection[tuple[str, int]] = ()
) -> SplitPlan:
    """The steps of a published split that can be converted.

    Args:
        source: the files that are there.
        name: in :data:`SPLITS`.
        needs: (steps back, ``before`` or ``after``) of every file that a step needs.
        lost: (``before`` or ``after``, step) of every damaged file.
    """
    steps = SPLITS[name].steps
    held = {"before": source.before, "after": source.files["mlo"]}
    pairs = [n for n in steps if n in held["before"] and n in held["after"]]
    spanned = [n for n in steps if pairs and pairs[0] <= n <= pairs[-1]]
    with_history = [n for n in pairs if all(n - back in held[kind] for back, kind in needs)]
    damaged = set(lost)
    kept = [n for n in with_history if not any((kind, n - back) in damaged for back, kind in needs)]
    return SplitPlan(
        split=name,
        steps=tuple(kept),
        expected=len(steps),
        spanned=len(spanned),
        found=len(pairs),
        missing=tuple(sorted(set(spanned) - set(pairs))),
        without_history=len(pairs) - len(with_history),
        lost=len(with_history) - len(kept),
    )
