"""Every benchmark runs at a tiny size and says what it measured in one line of JSON; and the table of their lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KEYS = {"what", "value", "unit", "ratio", "judged", "at_most", "at_least", "met"}
#: Topic, and a word from each of its figures.
TOPICS = {
    "generation": ["climate", "perturbed"],
    "conversion": ["v1, 20 steps", "v2_rh_mc, 20 steps", "v6, 20 steps", "most memory"],
    "loader": ["256", "512", "feeds", "first batch", "calls"],
    "training": ["mlp, 32-true", "mlp, bf16-mixed", "unet, 32-true", "unet, bf16-mixed"],
    "networks": [
        *(f"small {name}: {what}" for name in ("mlp", "unet") for what in ("forward", "products")),
        *(f"paper mlp: {what}" for what in ("forward", "training")),
        *(f"paper unet: {what}" for what in ("forward", "float32 forward", "training")),
    ],
    "coupling": ["bridge jax", "resident memory"],
    "online": ["own physics", "small mlp"],
    "scale": ["written", "read", "to v1", "to v2_rh_mc", "to v6"],
    "kaggle": ["train.csv", "train.parquet", "test.csv"],
    "start": ["--help", "import"],
    "scores": ["aggregation of v1", "read by", "memory", "all literature scores"],
}


#: Those that compile a climate model or train: with `make test-slow`.
SLOW = ("generation", "training", "networks", "coupling", "online")
SOME = [topic for topic in TOPICS if topic not in SLOW]


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """``printed(topics)``: what each prints; all at once, since most of their time is compilation."""
    return lambda topics: _printed(topics, tmp_path_factory)


def _printed(topics, tmp_path_factory):
    begun = {
        topic: subprocess.Popen(
            [sys.executable, "-W", "ignore", str(BENCHMARKS / f"{topic}.py"), "--smoke"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path_factory.mktemp("bench"),
        )
        for topic in topics
    }
    said = {topic: process.communicate() for topic, process in begun.items()}
    for topic, process in begun.items():
        assert process.returncode == 0, f"{topic}: {said[topic][1]}"
    return {topic: out for topic, (out, _) in said.items()}


@pytest.fixture(scope="module")
def lines(printed):
    return printed(SOME)


@pytest.mark.slow
def test_the_slow_ones_print_their_figures(printed):
    for topic, out in printed(SLOW).items():
        check(topic, out)


@pytest.mark.parametrize("topic", SOME)
def test_a_benchmark_prints_one_line_with_its_figures(lines, topic):
    check(topic, lines[topic])


def check(topic, out):
    (line,) = out.splitlines()
    found = json.loads(line)
    assert (found["benchmark"], found["smoke"]) == (topic, True)
    for word, measure in zip(TOPICS[topic], found["measures"], strict=True):
        assert set(measure) >= KEYS
        assert word in measure["what"]
        judged = measure[measure["judged"]]
        goals = [g for g in (measure["at_most"], measure["at_least"]) if g is not None]
        assert measure["met"] is None if not goals else measure["met"] in (judged <= goals[0], judged >= goals[0])


def test_the_table_goes_between_the_markers_of_the_page(lines, tmp_path):
    (tmp_path / "lines.jsonl").write_text("".join(lines.values()))
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- figures -->\nold\n<!-- end of figures -->\nbelow\n")
    command = [sys.executable, str(BENCHMARKS / "table.py"), "--lines", "lines.jsonl", "--docs", "page.md"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    text = page.read_text()
    assert text.startswith("above\n<!-- figures -->\n") and text.endswith("<!-- end of figures -->\nbelow\n")
    assert "old" not in text
    for topic in SOME:
        assert topic in done.stdout and f"| {topic} |" in text
