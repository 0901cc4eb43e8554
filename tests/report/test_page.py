"""The page: complete, valid, self-contained, and honest about what is missing."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from subgrid.base.errors import SubgridError
from subgrid.report import write_report

from .builder import UNSTABLE, coupled_metrics, make_coupled, make_run

VOID = {"meta", "img", "source", "br", "link", "hr"}
SECTIONS = ["what", "summary", "training", "offline", "online", "cost", "export", "reproduce"]
FIGURES = [
    "loss",
    "r2-profiles",
    "error-profiles",
    "cross-sections",
    "series",
    "zonal-bias",
    "rmse",
    "precipitation-maps",
    "precipitation-histogram",
    "budgets",
    "distances",
    "months",
    "rain-latitude",
    "rain-surface",
    "moistening",
    "spectra",
    "outside",
    "step-cost",
]


class Checker(HTMLParser):
    """Collects ids, addresses and text; raises where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.missing_alt = 0
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        self.addresses += [found[k] for k in ("src", "href", "srcset") if k in found]
        self.missing_alt += tag == "img" and not found.get("alt")

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    assert len(set(checker.ids)) == len(checker.ids)
    assert not checker.missing_alt
    for address in checker.addresses:
        assert address.startswith(("#", "data:image/png;base64,")), address[:80]
    for target in (a[1:] for a in checker.addresses if a.startswith("#")):
        assert target in checker.ids
    return checker


def test_everything_is_there_in_order(page):
    checker = check(page)
    assert [i for i in checker.ids if i in SECTIONS] == SECTIONS
    assert [i for i in checker.ids if i in FIGURES] == FIGURES
    text = " ".join(checker.text)
    for expected in ("12,345 parameters", "recipe", "standard (epochs 5)", "seed 3", "T5, 8 levels, 128 columns"):
        assert expected.lower() in text.lower()
    for expected in (
        "Stable",
        "4.1×10⁻⁷",
        "subgrid data generate out=demo/store.zarr",
        "3.21 GiB",
        "jax",
        "ridge 0.200",
    ):
        assert expected in text
    assert "None" not in text
    assert "nan" not in text.lower().split()


def test_nothing_is_fetched(page):
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "<script" not in page


def test_images_are_png(page):
    images = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(images) == 2 * len(FIGURES)
    for image in images:
        assert base64.b64decode(image, validate=True).startswith(b"\x89PNG\r\n\x1a\n")


def test_table_has_every_scored_variable(page):
    text = "".join(check(page).text)
    for title in ("Temperature tendency", "Convective precipitation", "Net heat flux into the surface"):
        assert title in text
    assert "1.00×10⁻⁸ kg/kg/s" in text


def test_same_results_same_page(demo, page, tmp_path):
    again = write_report(demo, tmp_path / "again.html")
    assert again == tmp_path / "again.html"
    assert again.read_text(encoding="utf-8") == page


def test_unstable_run_says_where(quick, tmp_path):
    make_coupled(tmp_path / "coupled", UNSTABLE)
    text = "".join(check(write_report(tmp_path).read_text(encoding="utf-8")).text)
    assert "Unstable" in text
    assert "112.5 K at σ = 0.10, level 1, 83.1°S, 123.8°W" in text


def test_run_that_failed_on_its_first_day(tmp_path):
    metrics = {k: coupled_metrics(UNSTABLE)[k] for k in ("requested_days", "finite", "unstable", "bridge")}
    (tmp_path / "coupled").mkdir()
    (tmp_path / "coupled" / "metrics.json").write_text(json.dumps(metrics | {"days": 0, "first_unstable_day": 0}))
    checker = check(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "after 0 of 90 days" in "".join(checker.text)
    assert not set(FIGURES) & set(checker.ids)


@pytest.mark.parametrize(
    ("part", "section"),
    [("run", "training"), ("evaluation", "offline"), ("coupled", "online"), ("export", "export")],
)
def test_one_result_alone_by_its_own_folder(quick, demo, tmp_path, part, section):
    shutil.copytree(demo / part, tmp_path / part)
    checker = check(write_report(tmp_path / part).read_text(encoding="utf-8"))
    found = [i for i in checker.ids if i in SECTIONS[2:]]
    assert found[0] == section
    assert set(found) <= {section, "cost", "reproduce"}


@pytest.mark.parametrize("absent", ["store.zarr", "run", "evaluation", "coupled", "export", "summary.json"])
def test_missing_parts_leave_the_rest(quick, demo, tmp_path, absent):
    folder = tmp_path / "demo"
    for entry in demo.iterdir():
        if entry.name not in (absent, "report.html"):
            folder.mkdir(exist_ok=True)
            (folder / entry.name).symlink_to(entry)
    checker = check(write_report(folder).read_text(encoding="utf-8"))
    gone = {"run": {"training"}, "evaluation": {"offline"}, "coupled": {"online", "cost"}, "export": {"export"}}
    expected = set(SECTIONS) - gone.get(absent, set())
    assert set(checker.ids) & set(SECTIONS) == expected


def test_sections_and_comparison_may_be_absent(quick, demo, tmp_path):
    for part, file in (("evaluation", "scores.json"), ("coupled", "metrics.json")):
        (tmp_path / part).mkdir()
        shutil.copy(demo / part / file, tmp_path / part / file)
    checker = check(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "r2-profiles" in checker.ids
    assert "cross-sections" not in checker.ids
    assert "series" not in checker.ids


def test_what_results_say_is_escaped(tmp_path):
    make_run(tmp_path / "run", "nowhere")
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architecture": "<script>alert(1)</script>"}))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    check(page)


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(SubgridError, match="nothing to report") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(SubgridError, match="nothing to report"):
        write_report(tmp_path / "absent")
    assert not list(tmp_path.iterdir())


def test_damaged_results_are_named(quick, demo, tmp_path):
    shutil.copytree(demo / "evaluation", tmp_path / "evaluation")
    path = tmp_path / "evaluation" / "scores.json"
    held = json.loads(path.read_text())
    del held["levels_sigma"]
    path.write_text(json.dumps(held))
    with pytest.raises(SubgridError, match="offline results are damaged"):
        write_report(tmp_path)
    path.write_text("{")
    with pytest.raises(SubgridError, match=r"scores\.json is not valid JSON"):
        write_report(tmp_path)


def test_out_may_be_a_folder(quick, demo, tmp_path):
    assert write_report(demo / "export", tmp_path) == tmp_path / "report.html"
    nested = write_report(str(demo / "export"), str(tmp_path / "deep" / "page.html"))
    assert nested == Path(tmp_path / "deep" / "page.html")
    assert nested.is_file()
