"""Runs pushed to a local imitation of the hub, or to a folder, and pulled again: what goes, what is checked."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
import time

import pytest
import torch

from subgrid.base.errors import SubgridError, UsageError
from subgrid.cli.app import main
from subgrid.deployment.sharing import MANIFEST, ShareConfig, pull, push
from subgrid.emulator import load_emulator
from subgrid.emulator.files import load
from subgrid.evaluation.blend import BlendConfig, blend

from .model_hub import TOKEN, ModelHub, serving

REPOSITORY = "someone/speedy-mlp"


@pytest.fixture
def hub(monkeypatch):
    """The imitation with an empty repository, the token in the environment, and short waits.

    Its large files come by LFS, which huggingface_hub uses where its accelerator hf_xet is off.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.001)))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(ModelHub(REPOSITORY)) as state:
        yield state


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of a run with what does not belong to it."""
    copied = tmp_path / "run"
    shutil.copytree(tiny_run, copied)
    (copied / ".env").write_text("PASSWORD=x")
    (copied / "notes.txt").write_text("mine")
    (copied / "emulator" / ".weights.1.tmp").write_bytes(b"half")
    (copied / "logs" / "link").symlink_to("/etc/hostname")
    return copied


def at(hub, **changes):
    return ShareConfig(**{"repository": REPOSITORY, "endpoint": hub.url, **changes})


def held(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same_emulator(a, b):
    ours, theirs = load_emulator(a).state_dict(), load_emulator(b).state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_goes_to_the_hub_and_comes_back_as_it_was(hub, run, tmp_path):
    told = push(run, at(hub))
    assert len(hub.commits) == 2  # the empty one, and one for all
    assert told["files"] == len(hub.files) - 2 and set(hub.files) > {"README.md", MANIFEST, "config.json"}
    assert list(hub.large.values()) == [(run / "emulator/weights.safetensors").read_bytes()]
    back = tmp_path / "back"
    assert pull(at(hub), back)["files"] == told["files"]
    found, wanted = held(back), held(run)
    assert found == {path: wanted[path] for path in found} and same_emulator(back, run)
    assert not {path for path in found if path.startswith(("checkpoints", "."))} & set(wanted)
    assert {"config.json", "metrics.json", "provenance.json", "logs/csv/metrics.csv"} < set(found)
    assert not {"notes.txt", ".env", "log.txt", "logs/link", "emulator/.weights.1.tmp"} & set(hub.files)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "run"]


def test_checkpoints_go_when_asked_for(hub, run, tmp_path):
    push(run, at(hub, checkpoints=True))
    pull(at(hub), tmp_path / "back")
    assert (tmp_path / "back/checkpoints/last.ckpt").read_bytes() == (run / "checkpoints/last.ckpt").read_bytes()


def test_a_repository_is_made_when_asked_for_and_is_private(hub, run, tmp_path, monkeypatch):
    hub.commits = None
    with pytest.raises(SubgridError, match=rf"{REPOSITORY} does not exist, or is hidden"):
        push(run, at(hub))
    push(run, at(hub, create=True))
    assert hub.private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SubgridError, match="does not exist, or is hidden from you: check --endpoint and HF_TOKEN"):
        pull(at(hub), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_busy_hub_is_asked_again(hub, run, tmp_path):
    hub.statuses = {"/commit/": [503], "/resolve/": [502]}
    push(run, at(hub))
    pull(at(hub), tmp_path / "back")
    assert same_emulator(tmp_path / "back", run)


def test_the_token_is_needed_and_never_told(hub, run, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    hub.statuses = {"/commit/": [503]}
    push(run, at(hub))
    assert all(TOKEN not in str(content) for content in [caplog.text, hub.files.values()])
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(SubgridError, match="access denied: set HF_TOKEN to a valid token") as refused:
        push(run, at(hub))
    assert "hf_wrong" not in str(refused.value)
    monkeypatch.delenv("HF_TOKEN")
    before = len(hub.asked)
    with pytest.raises(SubgridError, match="set HF_TOKEN in the environment"):
        push(run, at(hub))
    assert len(hub.asked) == before
    pull(at(hub), tmp_path / "back")  # a public one needs none
    assert hub.asked[-1][2] == ""


def test_a_blend_goes_too(tiny_run, tiny_store, hub, tmp_path):
    blend(BlendConfig((str(tiny_run), str(tiny_run)), str(tiny_store.path)), tmp_path / "blend")
    push(tmp_path / "blend", at(hub))
    pull(at(hub), tmp_path / "back")
    assert load(tmp_path / "back").answer == "weighted sum of 2 emulators"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_will_do(run, tmp_path, form):
    place = ShareConfig(form.format(tmp_path / "shared"))
    told = push(run, place)
    pull(place, tmp_path / "back")
    assert same_emulator(tmp_path / "back", run) and told["files"] == len(held(tmp_path / "back"))
    with pytest.raises(SubgridError, match="shared is there already"):
        push(run, place)


def test_the_verbs(hub, run, tmp_path, monkeypatch, capsys):
    def verb(*words):
        monkeypatch.setattr(sys, "argv", ["subgrid", *words, "--endpoint", hub.url])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    pushed = json.loads(verb("push", str(run), REPOSITORY, "--json"))
    assert pushed["to"] == REPOSITORY and pushed["commit"] == f"{2:040x}" and pushed["bytes"] > 0
    assert "as they were pushed" in verb("pull", REPOSITORY, str(tmp_path / "back"))
    assert same_emulator(tmp_path / "back", run)


def altered(files, path, change):
    files[path] = change(files[path])


def manifest(change):
    def changed(content):
        said = json.loads(content)
        change(said)
        return json.dumps(said).encode()

    return changed


def of_files(change):
    return manifest(lambda said: change(said["files"]))


ENTRY = {"bytes": 1, "sha256": "0" * 64}
FOREIGN = "lists what is no part of a run"
BROKEN = {
    "a flipped bit": ("metrics.json", lambda c: c[:-2] + bytes([c[-2] ^ 1]) + c[-1:], "metrics.json came otherwise"),
    "a short file": ("config.json", lambda c: c[:-10], "config.json came otherwise than subgrid.json lists it"),
    "another version": (MANIFEST, manifest(lambda s: s.update(format_version=99)), "pushed run format version 99"),
    "no manifest of ours": (MANIFEST, lambda c: b"{}", "does not describe a pushed run"),
    "no JSON": (MANIFEST, lambda c: b"<html>", "is not valid JSON"),
    "a way out": (
        MANIFEST,
        of_files(lambda f: f.update({"emulator/../../x": ENTRY})),
        "lists what is no part of a run",
    ),
    "another's file": (MANIFEST, of_files(lambda f: f.update({"setup.py": ENTRY})), "lists what is no part of a run"),
    "no list": (MANIFEST, manifest(lambda s: s.update(files=[])), "lists what is no part of a run"),
    "a lost file": (MANIFEST, of_files(lambda f: f.update({"logs/x": ENTRY})), "logs/x does not exist at commit"),
    "no emulator": (MANIFEST, of_files(lambda f: f.pop("emulator/emulator.json")), "is no run folder with an emulator"),
    "no weights": (MANIFEST, of_files(lambda f: f.pop("emulator/weights.safetensors")), "weights.safetensors"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_as_it_was_pushed_leaves_nothing(hub, run, tmp_path, name):
    push(run, at(hub))
    path, change, says = BROKEN[name]
    altered(hub.files, path, change)
    before = held(tmp_path)
    with pytest.raises(SubgridError, match=says):
        pull(at(hub), tmp_path / "back")
    assert held(tmp_path) == before and not (tmp_path / "back").exists()


def test_a_repository_without_a_run_and_an_unknown_revision(hub, run, tmp_path):
    with pytest.raises(SubgridError, match=r"subgrid.json does not exist at commit"):
        pull(at(hub), tmp_path / "back")
    with pytest.raises(SubgridError, match=r"does not exist at commit v9"):
        pull(at(hub, revision="v9"), tmp_path / "back")
    with pytest.raises(SubgridError, match="holds no run that subgrid pushed"):
        pull(ShareConfig(str(tmp_path)), tmp_path / "back")


def test_a_target_that_is_there_is_kept(hub, run, tmp_path):
    push(run, at(hub))
    before = held(run)
    with pytest.raises(SubgridError, match="run is there already"):
        pull(at(hub), run)
    assert held(run) == before


def test_what_is_no_finished_run_is_not_pushed(hub, run, tmp_path):
    with pytest.raises(SubgridError, match="is no run folder with an emulator"):
        push(tmp_path, at(hub))
    (run / "metrics.json").unlink()
    with pytest.raises(SubgridError, match="is not finished"):
        push(run, at(hub))
    assert len(hub.commits) == 1


@pytest.mark.parametrize("name", ["speedy", "a/b/c", "a/", "some one/x", "a/../b", "-a/b", "hf://a/b"])
def test_a_name_that_is_neither_is_refused(name):
    with pytest.raises(UsageError, match="neither OWNER/NAME nor a folder"):
        ShareConfig(name)


def test_settings_of_the_hub_are_not_for_folders():
    with pytest.raises(UsageError, match="are for the hub"):
        ShareConfig("./x", create=True)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(run, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SubgridError, match="no space left while writing"):
        push(run, ShareConfig(str(tmp_path / "shared")))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("shared") and path.is_dir()]
