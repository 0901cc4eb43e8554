"""What every verb offers: help, version, how much it says, and that it starts at once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from subgrid.cli.app import _without_levels, main


def run(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["subgrid", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, capsys.readouterr()


@pytest.mark.parametrize("verb", ["train", "evaluate", "couple", "export", "report", "demo", "study", "list"])
def test_help_has_an_example(verb, tmp_path, monkeypatch, capsys):
    code, said = run([verb, "--help"], tmp_path, monkeypatch, capsys)
    assert code == 0 and f"Example: subgrid {verb}" in said.out


def test_list_names_what_there_is(tmp_path, monkeypatch, capsys):
    code, said = run(["list"], tmp_path, monkeypatch, capsys)
    assert code == 0
    assert ", mlp, " in said.out and "standard" in said.out and "speedy_expanded" in said.out


def test_version_is_that_of_the_installed_package(tmp_path, monkeypatch, capsys):
    code, said = run(["--version"], tmp_path, monkeypatch, capsys)
    assert (code, said.out) == (0, f"subgrid {version('subgrid')}\n")


@pytest.mark.parametrize("words", [["--verbose", "data", "info", "none"], ["data", "info", "none", "--verbose"]])
def test_verbose_before_or_after_the_verb_says_where_it_failed(words, tmp_path, monkeypatch, capsys):
    code, said = run(words, tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "Traceback" in said.err and said.err.splitlines()[-1].startswith("subgrid: none does not exist")


@pytest.mark.parametrize("words", [["--quiet", "list"], ["list", "--quiet"]])
def test_quiet_still_prints_the_result(words, tmp_path, monkeypatch, capsys):
    code, said = run(words, tmp_path, monkeypatch, capsys)
    assert code == 0 and ", mlp, " in said.out and said.err == ""


def test_the_last_of_quiet_and_verbose_counts():
    assert _without_levels(["--quiet", "list", "--verbose"]) == (["list"], logging.DEBUG)
    assert _without_levels(["list"]) == (["list"], logging.INFO)


@pytest.mark.parametrize(
    ("words", "most"), [(["-m", "subgrid.cli.app", "--help"], 0.5), (["-c", "import subgrid"], 0.2)]
)
def test_it_starts_at_once(words, most):
    """Time of the processor, which other work on the machine does not lengthen much."""
    code = "import resource, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=-3)"
    code += "; used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    taken = [
        float(subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(taken) < most, f"{words}: {taken} s"


def test_import_is_lazy():
    code = "import sys, subgrid; assert not {'torch', 'jax', 'xarray', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
