"""A movie has a frame a day; wrong fields, levels and files are refused."""

from __future__ import annotations

import pytest
from PIL import Image

from subgrid.base.errors import SubgridError, UsageError
from subgrid.coupling import CoupleConfig, couple
from subgrid.hosts.base import host
from subgrid.hosts.sampling import GenerateConfig
from subgrid.report.movie import write_movie


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movie")
    sampling = GenerateConfig(
        spin_up_days=2, train_days=1, evaluation_days=4, gap_days=0, fraction=0.5, evaluation_fraction=0.5
    )
    store = host("column", columns=8, levels=10).generate(folder / "store.zarr", sampling)
    start = sorted((store.path / "restarts").iterdir())[0].stem
    couple(CoupleConfig("own", str(store.path), start=start, days=3, perturb=0.5, member=1), folder / "run")
    return folder / "run"


def test_it_has_a_frame_a_day(run, tmp_path):
    with Image.open(write_movie(run, "precipitation", tmp_path / "rain.gif")) as movie:
        assert movie.n_frames == 3 and movie.width > 700
    with Image.open(write_movie(run, "temperature", tmp_path / "warm.gif", level=9, every=2)) as movie:
        assert movie.n_frames == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("precipitatoin", "a.gif"), "did you mean precipitation"),
        (("temperature", "a.gif"), "10 levels: choose one"),
        (("temperature", "a.gif", 10), "10 levels: choose one"),
        (("precipitation", "a.gif", 2), "has no levels"),
        (("precipitation", "a.mp4"), "must end in .gif"),
        (("precipitation", "a.gif", None, 0), "at least 1"),
    ],
)
def test_wrong_requests_are_refused(run, tmp_path, words, says):
    field, name, *more = words
    with pytest.raises(UsageError, match=says):
        write_movie(run, field, tmp_path / name, *more)
    assert list(tmp_path.iterdir()) == []


def test_no_run_is_refused(tmp_path):
    with pytest.raises(SubgridError, match="no finished coupled run"):
        write_movie(tmp_path, "precipitation", tmp_path / "a.gif")
