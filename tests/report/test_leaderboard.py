"""A leaderboard: what it shows of files of scores and of runs, its links, and that it works in a browser."""

from __future__ import annotations

import html
import json
import re
import subprocess

import pytest

from subgrid.base.errors import SubgridError
from subgrid.base.files import write_json
from subgrid.base.formats import ONLINE, RUN, write_record
from subgrid.report.leaderboard import FIRST, entries, write_leaderboard

from .builder import make_coupled
from .test_browser import CHROMIUM, FLAGS


def record(architecture, recipe, ratio, finite=True):
    found = {
        "architecture": architecture,
        "recipe": recipe,
        "seed": 7,
        "days": 90 if finite else 12,
        "finite": finite,
        "mid_troposphere_temperature_difference_K": 0.4 * ratio,
        "lowest_level_humidity_ratio": 1.0 + 0.01 * ratio,
        "precipitation_ratio": 1.02,
        "r2": 0.9 - 0.01 * ratio,
        "parameters": 60000,
        "columns_per_second": 90000,
    }
    return found | ({"ratio": {"temperature": ratio, "specific_humidity": 2.0}} if finite else {})


@pytest.fixture
def places(tmp_path):
    folder = tmp_path / "results_online"
    folder.mkdir()
    for name, values in {
        "unet-standard": record("unet", "standard", 1.5),
        "unet-difference": record("unet", "difference", 10.2),
        "pao-standard": record("pao", "standard", 2.5),
        "pao-expanded": record("pao", "expanded", 0.0, finite=False),
    }.items():
        write_record(folder / f"{name}.json", ONLINE, values)
    write_record(folder / "floor.json", ONLINE, {"floors": {}})  # of the same kind, but no run
    run = tmp_path / "run"
    run.mkdir()
    config = {"architecture": "mlp", "recipe": "standard", "seed": 0}
    write_record(run / "config.json", RUN, config)
    write_json(run / "metrics.json", {"parameters": 12345})
    make_coupled(run / "coupled")
    (run / "report.html").write_text("<!DOCTYPE html>")
    return [folder, run]


def test_files_of_scores_and_runs_stand_side_by_side(places, tmp_path):
    found = {entry.name: entry for entry in entries(places)}
    assert set(found) == {"unet-standard", "unet-difference", "pao-standard", "pao-expanded", "run"}
    assert found["run"].values["parameters"] == 12345 and found["run"].values["architecture"] == "mlp"
    text = write_leaderboard(places, tmp_path, title="A & B").read_text()
    assert "A &amp; B" in text and 'href="run/report.html"' in text
    assert text.count("<tr>") == 6 and "12,345" in text and 'class="off">no<' in text
    assert text.count("<figure") == 2 and "http://" not in text and "https://" not in text


def test_a_single_file_and_a_folder_of_runs_will_do(places, tmp_path):
    assert [e.name for e in entries([places[0] / "unet-standard.json"])] == ["unet-standard"]
    assert [e.name for e in entries([tmp_path])] == ["run"]


def test_runs_in_shadow_mode_are_no_results_of_their_emulator(places, tmp_path):
    shadow = tmp_path / "results_online" / "unet-shadow.json"
    write_record(shadow, ONLINE, {**record("unet", "standard", 0.9), "shadow": {"temperature_tendency": {"r2": 0.7}}})
    assert "unet-shadow" not in {entry.name for entry in entries(places)}
    with pytest.raises(SubgridError, match="whose emulator acts"):
        entries([shadow])


def test_nothing_to_compare_is_refused(tmp_path):
    with pytest.raises(SubgridError, match="no coupled run and no file of online scores"):
        write_leaderboard([tmp_path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


LOOK = """
<script>
addEventListener("load", () => {
  const names = () => [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  const found = {first: names(), widths: document.documentElement.scrollWidth - document.documentElement.clientWidth};
  heads[0].querySelector("button").click();
  found.byName = names();
  heads[0].querySelector("button").click();
  found.byNameDown = names();
  filter.value = "unet";
  filter.dispatchEvent(new Event("input"));
  found.filtered = names();
  found.told = shown.textContent;
  found.sorted = heads[0].getAttribute("aria-sort");
  document.body.textContent = JSON.stringify(found);
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="install chromium (apt-get install chromium)")
def test_it_sorts_and_filters_in_a_browser(places, tmp_path):
    page = write_leaderboard(places, tmp_path)
    page.write_text(page.read_text().replace("</body>", LOOK + "</body>"))
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    found = json.loads(html.unescape(told[1]))
    assert FIRST == "ratio.temperature"
    assert found["first"][:3] == ["unet-standard", "pao-standard", "unet-difference"]  # as numbers: 1.5, 2.5, 10.2
    assert set(found["first"][3:]) == {"pao-expanded", "run"}  # without a value: last
    assert found["byName"] == sorted(found["byName"]) == found["byNameDown"][::-1]
    assert set(found["filtered"]) == {"unet-standard", "unet-difference"}
    assert found["told"] == "2 of 5 runs" and found["sorted"] == "descending" and found["widths"] <= 0
