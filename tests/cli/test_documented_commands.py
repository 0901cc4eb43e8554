"""Every `subgrid ...` command that a page, help text or report shows: accepted as it is, and run if it is cheap."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from subgrid.cli import app as app_module
from subgrid.cli.app import main
from subgrid.columns.variables import variable_set
from subgrid.emulator.config import EmulatorConfig
from subgrid.hosts.base import host_settings
from subgrid.networks import resolve
from subgrid.workflows.demo import commands as demo_commands
from subgrid.workflows.studies import STUDIES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\S*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: What makes a command cheap on the tiny store; verbs that are not here need the host, or hours.
TINY = {
    "list": [],
    "data info": [],
    "train": ["recipe.epochs=1", "recipe.batch_size=256", "precision=32-true"],
    "evaluate": [],
    "export": [],
    "verify": ["--no-fortran"],
    "report": [],
}


def shown() -> list[str]:
    """The commands of all pages, of the help texts, and of the demo's summary, each once."""
    found = []
    for page in PAGES:
        for language, block in BLOCK.findall(page.read_text()):
            if language in ("", "bash", "sh"):
                found += [line for line in block.splitlines() if line.startswith("subgrid ")]
    for module in sorted(Path(app_module.__file__).parent.glob("*.py")):
        found += re.findall(r"Example: (subgrid .+)", module.read_text())
    found += [word for tiny in (False, True) for word in demo_commands(Path("demo"), tiny)]
    return list(dict.fromkeys(line.split(" #")[0].strip() for line in found))


def verbs_of(group: typer.Typer, name: str = "") -> set[str]:
    """Names of all verbs of a group, with those of the groups in it: ``train``, ``data convert climsim``."""
    found = {f"{name}{c.name or c.callback.__name__}" for c in group.registered_commands}
    for inner in group.registered_groups:
        found |= verbs_of(inner.typer_instance, f"{name}{inner.name} ")
    return found


VERBS = verbs_of(app_module.app)


def verb_of(command: str) -> str:
    words = command.split()[1:]
    if words[0] == "sweep" and "=" in words[1]:
        return "sweep run"
    return next((verb for n in (3, 2, 1) if (verb := " ".join(words[:n])) in VERBS), words[0])


COMMANDS = shown()


class Reached(BaseException):
    """The command was accepted; its work would begin."""


def reached(*args, **kwargs):
    raise Reached


def check_training(config, out):
    resolve(config.architecture, config.size, **config.network)
    variable_set(config.variables)
    reached()


def check_coupling(config, out):
    EmulatorConfig(**config.constraints)
    reached()


def checked_host(name, **settings):
    def generate(path, sampling):
        sampling.check(host_settings(name)(**settings))
        reached()

    return SimpleNamespace(generate=generate)


def trained(run):
    """What any run says of itself."""
    return {"variables": "speedy", "architecture": "mlp", "network": {}, "emulator": {}}


@pytest.fixture
def no_work(monkeypatch):
    """Every verb's work replaced by what it checks first."""
    places = {
        "subgrid.cli.verbs": ("store_of", lambda run, given: given or "store.zarr"),
        "subgrid.columns.climsim.convert": ("convert", reached),
        "subgrid.columns.climsim.download": ("plan_download", reached),
        "subgrid.columns.climsim.sample": ("write_sample", reached),
        "subgrid.columns.copying": ("copy_store", reached),
        "subgrid.columns.climsim.npy": ("convert", reached),
        "subgrid.columns.kaggle.convert": ("convert", reached),
        "subgrid.columns.store": ("open_store", reached),
        "subgrid.coupling.run": ("couple", check_coupling),
        "subgrid.deployment.bundle": ("export", reached),
        "subgrid.deployment.verification": ("verify", reached),
        "subgrid.emulator.files": ("settings_of", trained),
        "subgrid.deployment.sharing": ("push", reached),
        "subgrid.evaluation.blend": ("blend", reached),
        "subgrid.evaluation.offline": ("evaluate", reached),
        "subgrid.evaluation.solution": ("score_submission", reached),
        "subgrid.evaluation.submission": ("write_submission", reached),
        "subgrid.hosts.base": ("host", checked_host),
        "subgrid.report": ("write_report", reached),
        "subgrid.report.leaderboard": ("write_leaderboard", reached),
        "subgrid.report.movie": ("write_movie", reached),
        "subgrid.training.fit": ("fit", check_training),
        "subgrid.workflows.demo": ("run_demo", reached),
        "subgrid.workflows.ensemble": ("run_ensemble", reached),
        "subgrid.workflows.finetune": ("finetune", reached),
        "subgrid.workflows.sweep": ("run_sweep", reached),
    }
    # all are imported before one is changed: what a module imports meanwhile, it would keep
    modules = {module: import_module(module) for module in places}
    for module, (name, work) in places.items():
        monkeypatch.setattr(modules[module], name, work)
    monkeypatch.setattr("subgrid.workflows.sweep.sweep_status", reached)
    monkeypatch.setattr("subgrid.deployment.sharing.pull", reached)
    for name in STUDIES:
        monkeypatch.setitem(STUDIES, name, reached)


def call(command: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> object:
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), *more])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_every_verb_is_shown_somewhere():
    assert {verb_of(command) for command in COMMANDS} == VERBS


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_accepted(command, no_work, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if verb_of(command) == "list":
        assert call(command, monkeypatch) == 0
        return
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(Reached):
        main()


@pytest.mark.parametrize(
    "command",
    [
        "subgrid train data=store.zarr out=run recipe.epoch=3",
        "subgrid couple run emulator.clip_output=false",
        "subgrid data generate out=store.zarr stride=12",
    ],
)
def test_what_checks_them_finds_a_wrong_one(command, no_work, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises((SystemExit, TypeError)):
        main()


@pytest.fixture
def published(climsim_store, published_file, write_normalisation, tmp_path):
    """What the pages take from ClimSim: a converted store, a network, the files of the normalisation."""
    (tmp_path / "climsim.zarr").symlink_to(climsim_store("v2_rh", 60).path)
    (tmp_path / "published.pt").symlink_to(published_file)
    write_normalisation(tmp_path / "normalizations", variable_set("v2_rh"), 60)


def test_the_cheap_ones_run_one_after_another(closed_store, published, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "demo"):
        folder.mkdir(exist_ok=True)
        for name in ("store.zarr", "store2.zarr", "columns.zarr"):
            (folder / name).symlink_to(closed_store.path)
    order = list(TINY)
    # A URL needs the network, a card's coupled run a minute; the competition's score, its networks and those beside it
    # need columns of ClimSim; several processes begin the program again, which is here that of the tests.
    absent = (
        "://",
        "metrics=kaggle",
        "data=kaggle.zarr",
        "devices=",
        "online=",
        "--target e3sm",
        "terms.zarr",
        "export deep",
    )
    here = (c for c in COMMANDS if verb_of(c) in TINY and not any(word in c for word in absent))
    cheap = sorted(here, key=lambda c: order.index(verb_of(c)))
    assert len(cheap) > 10
    for command in cheap:
        longer = ["recipe.epochs=3"] if "polish_epochs" in command else []  # the last word counts
        code = call(command, monkeypatch, *TINY[verb_of(command)], *longer)
        assert code == 0, f"{command}: {capsys.readouterr().err}"
    for made in (
        "run/metrics.json",
        "run/evaluation/scores.json",
        "bundle/model.pt",
        "run/export/model.pt",
        "demo/report.html",
        "run-official/metrics.json",
        "run-tuned/metrics.json",
        "published/evaluation/scores.json",
        "published/export/model.pt",
    ):
        assert (tmp_path / made).is_file(), made
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "train: begins" in log and "train: done after" in log
