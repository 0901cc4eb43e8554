"""The published splits by step number, pairs, holes, and the grid file of a folder."""

from __future__ import annotations

import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.climsim.files import SPLITS, chosen_splits, find_files, find_grid, plan_split, step_name
from subgrid.columns.climsim.names import file_name, step_number, step_time


def touch(folder, kinds, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        for kind in kinds:
            (folder / file_name(kind, *step_time(number))).touch()


@pytest.mark.parametrize(
    ("name", "files", "first", "last_month"),
    [
        ("train", 26280, "0001-02-01-00000", "0008-01"),
        ("val", 3755, "0008-02-01-00000", "0009-01"),
        ("scoring", 4380, "0008-02-01-00000", "0009-01"),
        ("test", 4380, "0009-03-01-01200", "0011-02"),
        ("test_stride7", 7509, "0009-03-01-00000", "0011-02"),
    ],
)
def test_the_published_splits(name, files, first, last_month):
    """Files of the sheet's table; two years of test months every 12 steps."""
    steps = SPLITS[name].steps
    assert len(steps) == files
    assert step_name(steps[0]) == first
    assert step_name(steps[-1]).startswith(last_month)


def test_scoring_has_twelve_steps_a_day():
    assert [step_time(n)[3] for n in SPLITS["scoring"].steps[:13]] == [*range(0, 86400, 7200), 0]


def test_names_of_splits():
    assert chosen_splits("val,train") == ["train", "val"]
    assert chosen_splits("all") == list(SPLITS)
    with pytest.raises(UsageError, match=r"did you mean.*'?scoring"):
        chosen_splits("scorin")
    with pytest.raises(UsageError, match="no split is asked for"):
        chosen_splits([])


def test_pairs_unpaired_and_duplicates(tmp_path):
    touch(tmp_path / "0001-02", ("mli", "mlo"), [0, 2])
    touch(tmp_path / "0001-02", ("mli",), [1])
    touch(tmp_path, ("mlo",), [3, 2])
    (tmp_path / "0001-02" / "notes.txt").touch()
    found = find_files(tmp_path)
    assert found.pairs == [0, 2]
    assert found.unpaired == ["E3SM-MMF.mli.0001-02-01-01200.nc", "E3SM-MMF.mlo.0001-02-01-03600.nc"]
    assert [(a.name, b.name) for a, b in found.duplicates] == [("E3SM-MMF.mlo.0001-02-01-02400.nc",) * 2]


def test_expanded_files_stand_for_those_before_physics(tmp_path):
    touch(tmp_path, ("mlexpand", "mlo"), [2, 3])
    assert find_files(tmp_path).pairs == [2, 3]


def test_a_plan_counts_what_is_not_there(tmp_path):
    touch(tmp_path, ("mli", "mlo"), [n for n in range(72) if n not in (7, 13, 26)])
    source = find_files(tmp_path)
    plain = plan_split(source, "train", [(0, "before"), (0, "after")])
    assert plain.steps == tuple(range(0, 71, 7))[:1] + tuple(range(14, 71, 7))
    assert (plain.expected, plain.found, plain.missing, plain.without_history) == (26280, 10, (7,), 0)
    history = plan_split(source, "train", [(0, "before"), (1, "after"), (2, "after")], [("before", 35), ("after", 40)])
    assert history.steps == (21, 49, 56, 63, 70)  # 0 and 14, 28 lack files; 35 and 42 need damaged ones
    assert (history.without_history, history.lost) == (3, 2)


def test_a_place_in_a_listing_does_not_matter(tmp_path):
    first = step_number(8, 2, 1, 0)
    touch(tmp_path, ("mli", "mlo"), range(first + 5, first + 40))
    assert plan_split(find_files(tmp_path), "val", [(0, "before")]).steps == tuple(first + n for n in range(7, 40, 7))


def test_no_folder_no_file(tmp_path):
    with pytest.raises(SubgridError, match="is no folder"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(SubgridError, match="holds no file"):
        find_files(tmp_path)


@pytest.mark.parametrize("place", [".", "..", "../..", "0001-02"])
def test_the_grid_file_is_in_the_folder_or_near_it(tmp_path, place):
    source = tmp_path / "a" / "b" / "train"
    (source / "0001-02").mkdir(parents=True)
    grid = (source / place / "ClimSim_low-res_grid-info.nc").resolve()
    grid.touch()
    assert find_grid(source) == grid


def test_no_grid_file_or_several(tmp_path):
    (tmp_path / "x" / "y" / "z").mkdir(parents=True)
    with pytest.raises(SubgridError, match=r"no file \*grid-info\.nc .*--grid FILE"):
        find_grid(tmp_path / "x" / "y" / "z")
    for name in ("low", "high"):
        (tmp_path / "x" / f"{name}_grid-info.nc").touch()
    with pytest.raises(SubgridError, match=r"several grid files .*--grid"):
        find_grid(tmp_path / "x")
