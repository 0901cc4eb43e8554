"""Downloads of ClimSim from a local imitation of the hub: what is chosen, cuts and kills, and what is refused."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import time
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import only_writer
from subgrid.cli.app import main
from subgrid.columns.climsim import download as module
from subgrid.columns.climsim import hub as hub_module
from subgrid.columns.climsim.convert import ConvertConfig, convert
from subgrid.columns.climsim.download import SOURCE, STAGING, DownloadConfig, download, plan_download, size_words
from subgrid.columns.climsim.files import find_files, find_grid
from subgrid.columns.climsim.names import parse_name, step_number
from subgrid.columns.climsim.sample import SampleConfig, write_sample

from .hub_server import COMMIT, HubState, dataset, netcdf, serving

REPOSITORY = "LEAP/ClimSim_low-res"
MONTHS = {"0001-02": [0, 1, 5, 6, 7, 14], "0001-03": [0, 1, 2]}


@pytest.fixture
def hub(monkeypatch):
    """The imitation of the hub with a few steps of two months; waits between attempts are short."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.001)))
    with serving(HubState(REPOSITORY, dataset(MONTHS))) as state:
        yield state


def asked(hub, **changes):
    return DownloadConfig(**{"config": "low-res", "endpoint": hub.url, **changes})


def get(hub, out, **changes):
    return download(plan_download(asked(hub, **changes), out))


def held(out):
    """Contents of the data files below ``out`` by path."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.nc")}


def steps(paths):
    """Numbers of the steps of the files among ``paths``, each once."""
    names = [path.rpartition("/")[2] for path in paths]
    return sorted({step_number(*parse_name(name)[1:]) for name in names if name.startswith("E3SM")})


def data_files(hub):
    return {path: content for path, content in hub.files.items() if path.endswith(".nc")}


def test_everything_arrives_as_it_is_and_nothing_else(hub, tmp_path):
    done = get(hub, tmp_path / "out")
    assert held(tmp_path / "out") == data_files(hub)
    assert done["fetched_files"] == done["files"] == len(data_files(hub)) == 19
    assert done["bytes"] == done["fetched_bytes"] == sum(map(len, data_files(hub).values()))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "ClimSim_low-res_grid-info.nc",
        "log.txt",
        SOURCE,
        "train",
    ]
    assert len(find_files(tmp_path / "out").pairs) == 9 and find_grid(tmp_path / "out").name.endswith("grid-info.nc")
    noted = json.loads((tmp_path / "out" / SOURCE).read_text())
    assert noted["repository"] == REPOSITORY and noted["requests"][0]["commit"] == COMMIT


def test_one_month_is_listed_alone_and_page_by_page(hub, tmp_path):
    hub.page = 5
    plan = plan_download(asked(hub, months="0001-02"), tmp_path / "out")
    assert plan.summary()["months"]["0001-02"]["files"] == 12
    assert [cursor for _, folder, cursor in hub.asked if folder == "train/0001-02"] == ["", "5", "10"]
    assert not [folder for _, folder, _ in hub.asked if folder == "train/0001-03"]
    assert not (tmp_path / "out").exists()


def test_a_stride_counts_from_the_first_step_of_the_data_set(hub, tmp_path):
    first = step_number(1, 3, 1, 0)  # 2016 = 7 * 288
    for months in ("0001-02:0001-03", "0001-03"):
        plan = plan_download(asked(hub, months=months, stride=7), tmp_path / "out")
        wanted = [0, 7, 14, first] if "02" in months else [first]
        assert steps(file.path for file in plan.files) == wanted


def test_history_adds_the_steps_before(hub, tmp_path):
    plan = plan_download(asked(hub, months="0001-02", stride=7, history=2), tmp_path / "out")
    assert steps(file.path for file in plan.files) == [0, 5, 6, 7, 14]


@pytest.mark.parametrize(("split", "first", "wanted"), [("val", (8, 2), [0, 7, 14]), ("test", (9, 3), [1, 13])])
def test_a_published_split_brings_its_months_and_steps(hub, tmp_path, split, first, wanted):
    year, month = first
    name = f"{year:04d}-{month:02d}"
    hub.files |= dataset({name: list(range(16))})
    plan = plan_download(asked(hub, split=split), tmp_path / "out")
    begin = step_number(year, month, 1, 0)
    assert steps(file.path for file in plan.files) == [begin + k for k in wanted]
    assert [folder for _, folder, _ in hub.asked if folder.startswith("train/")] == [f"train/{name}"]


def test_one_kind_alone_and_files_without_their_other_half(hub, tmp_path):
    del hub.files["train/0001-02/E3SM-MMF.mlo.0001-02-01-01200.nc"]
    plan = plan_download(asked(hub, kinds="mlo"), tmp_path / "out")
    assert all(".mlo." in file.path for file in plan.files[1:]) and len(plan.files) == 9
    assert plan.unpaired == ("E3SM-MMF.mli.0001-02-01-01200.nc",)


def test_the_expanded_files_are_named_otherwise(tmp_path):
    files = dataset({"0001-02": [2, 3]}, ("mlexpand", "mlo"))
    with serving(HubState("LEAP/ClimSim_low-res-expanded", files)) as hub:
        get(hub, tmp_path / "out", config="low-res-expanded")
        assert held(tmp_path / "out") == data_files(hub)
        with pytest.raises(UsageError, match="mlexpand"):
            asked(hub, config="low-res-expanded", kinds="mli")


def test_finished_files_are_not_fetched_again_and_cut_ones_are(hub, tmp_path):
    get(hub, tmp_path / "out")
    paths = sorted(data_files(hub))
    (tmp_path / "out" / paths[3]).write_bytes(hub.files[paths[3]][:100])
    (tmp_path / "out" / paths[5]).unlink()
    hub.asked.clear()
    done = get(hub, tmp_path / "out")
    assert done["fetched_files"] == 2 and sorted(hub.fetched()) == [paths[3], paths[5]]
    assert held(tmp_path / "out") == data_files(hub)


def test_a_body_that_ends_early_is_gone_on_with(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 64)
    path = sorted(data_files(hub))[4]
    hub.cuts[path] = 2
    get(hub, tmp_path / "out")
    assert held(tmp_path / "out") == data_files(hub)
    ranges = [wanted for method, asked_for, wanted in hub.asked if (method, asked_for) == ("GET", path)]
    assert ranges[0] == "" and ranges[-1].startswith("bytes=") and not ranges[-1].startswith("bytes=0")


def test_a_busy_hub_is_asked_again(hub, tmp_path):
    path = sorted(data_files(hub))[4]
    hub.statuses = {path: [503, 503], "tree/train": [503]}
    get(hub, tmp_path / "out")
    assert held(tmp_path / "out") == data_files(hub)


def test_a_download_that_is_killed_goes_on_with_what_is_left(hub, tmp_path, monkeypatch):
    fetch, done = hub_module.Hub.fetch, []

    def limited(self, file, folder):
        if len(done) == 6:
            raise KeyboardInterrupt
        done.append(file.path)
        return fetch(self, file, folder)

    with monkeypatch.context() as patch:
        patch.setattr(hub_module.Hub, "fetch", limited)
        with pytest.raises(KeyboardInterrupt):
            download(plan_download(asked(hub), tmp_path / "out"), workers=1)
    left = tmp_path / "out" / STAGING / "train" / "0001-02"
    left.mkdir(parents=True, exist_ok=True)
    path = next(p for p in sorted(data_files(hub)) if p not in done and "0001-02/" in p)
    (left / path.rpartition("/")[2]).write_bytes(b"half of it")  # as a kill leaves it
    hub.asked.clear()
    assert get(hub, tmp_path / "out")["fetched_files"] == 13
    assert sorted(set(hub.fetched())) == sorted(data_files(hub).keys() - set(done))
    assert held(tmp_path / "out") == data_files(hub) and not (tmp_path / "out" / STAGING).exists()


@pytest.mark.parametrize("what", ["size", "sum", "page"])
def test_what_is_not_the_file_that_was_listed_is_refused(hub, tmp_path, what):
    path = "train/0001-02/E3SM-MMF.mli.0001-02-01-00000.nc"
    if what == "size":
        hub.listed_sizes[path] = len(hub.files[path]) + 8
    if what == "sum":
        hub.listed_sums[path] = "ab" * 32
    if what == "page":
        hub.files[path] = b"<html>sign in to the network of this hotel</html>"
    says = {"size": "but the hub lists", "sum": "another SHA-256", "page": "no NetCDF file"}[what]
    with pytest.raises(SubgridError, match=rf"mli.0001-02-01-00000.nc came .*{says}"):
        get(hub, tmp_path / "out")
    assert path not in held(tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": "lowres"}, "low-res or low-res-"),
        ({"months": "0001-13"}, "0001-13"),
        ({"months": "0001-02:0001-05"}, r"has no month 0001-04, 0001-05: it has 0001-02 to 0001-03 \(2 months\)"),
        ({"kinds": "mlx"}, "it has mli and mlo"),
        ({"stride": 0}, "stride=0"),
        ({"history": -1}, "history=-1"),
        ({"split": "vla"}, "val"),
        ({"split": "val", "stride": 7}, "not both"),
    ],
)
def test_wrong_requests(hub, tmp_path, changes, says):
    with pytest.raises(UsageError, match=says):
        plan_download(asked(hub, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_configuration_is_kept(hub, tmp_path):
    get(hub, tmp_path / "out", months="0001-03")
    with pytest.raises(SubgridError, match="holds ClimSim low-res, not high-res"):
        plan_download(asked(hub, config="high-res"), tmp_path / "out")


def test_no_network_an_unknown_dataset_and_a_file_that_went_away(hub, tmp_path, monkeypatch):
    with pytest.raises(SubgridError, match=r"could not be reached: check the network"):
        plan_download(asked(hub, endpoint="http://127.0.0.1:9"), tmp_path / "out")
    with pytest.raises(SubgridError, match=r"ClimSim_high-res does not exist, or is hidden"):
        plan_download(asked(hub, config="high-res"), tmp_path / "out")
    plan = plan_download(asked(hub), tmp_path / "out")
    gone = "train/0001-03/E3SM-MMF.mlo.0001-03-01-02400.nc"
    del hub.files[gone]
    with pytest.raises(SubgridError, match=rf"{gone} does not exist at commit {COMMIT[:12]}"):
        download(plan)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SubgridError, match="HF_HUB_OFFLINE"):
        plan_download(asked(hub), tmp_path / "out")


def test_too_many_requests_say_what_to_do(hub, tmp_path):
    path = sorted(data_files(hub))[4]
    hub.statuses[path] = [429] * 1000
    with pytest.raises(SubgridError, match=r"no more requests now \(429\).*fewer --workers"):
        get(hub, tmp_path / "out")


def test_a_small_disk_is_told_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(SubgridError, match=r"are to be downloaded, but only 1 kB are free"):
        get(hub, tmp_path / "out")
    assert hub.fetched() == [] and not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_is_told_and_what_came_is_kept(hub, tmp_path, monkeypatch):
    plan, done, ask = plan_download(asked(hub), tmp_path / "out"), [], HfApi.hf_hub_download

    def limited(api, repository, path, **more):
        if len(done) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(path)
        return ask(api, repository, path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "hf_hub_download", limited)
        with pytest.raises(SubgridError, match=r"no space left while writing .*run the same command again"):
            download(plan, workers=1)
    assert sorted(held(tmp_path / "out")) == sorted(done)
    assert get(hub, tmp_path / "out")["fetched_files"] == 16


def test_another_process_on_the_folder_is_told(hub, tmp_path):
    plan = plan_download(asked(hub), tmp_path / "out")
    with only_writer(tmp_path / "out"), pytest.raises(SubgridError, match="another process is working"):
        download(plan)


def test_what_was_downloaded_converts_as_its_source_does(tmp_path):
    write_sample(tmp_path / "sample", SampleConfig(columns=12, levels=9, stride=7))
    with serving(HubState(REPOSITORY, {**held(tmp_path / "sample"), "README.md": b""}, page=7)) as state:
        done = get(state, tmp_path / "out", split="train")
    assert set(done["months"]) == {"grid", "0001-02"} and done["fetched_files"] == 1 + 2 * 11
    stores = [
        convert(ConvertConfig(str(tmp_path / name), "v1", "train"), tmp_path / f"{name}.zarr")["train"]
        for name in ("sample", "out")
    ]
    for array in ("inputs", "targets"):
        here, there = (store.read(array, 0) for store in stores)
        assert here.size == there.size and (here == there).all()


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["subgrid", "--quiet", "data", "download", "climsim", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_the_verb_says_first_and_fetches_then(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--config", "low-res", "--out", "here", "--endpoint", hub.url, "--months", "0001-02"]
    assert command(monkeypatch, *words, "--dry-run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["files"], said["missing_files"]) == (13, 13) and not (tmp_path / "here").exists()
    assert command(monkeypatch, *words, "--dry-run") == 0
    assert "13 files" in capsys.readouterr().out
    assert command(monkeypatch, *words) == 0
    assert "fetched 13 of them" in capsys.readouterr().out
    assert command(monkeypatch, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["fetched_files"] == 0


def test_a_large_download_asks_first(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "ASK_ABOVE", 1000)
    words = ["--config", "low-res", "--out", "here", "--endpoint", hub.url]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert command(monkeypatch, *words) == 1
    assert "no terminal to ask: add --yes" in capsys.readouterr().err and not (tmp_path / "here").exists()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    for answer, code in ((False, 1), (True, 0)):
        monkeypatch.setattr("typer.confirm", lambda text, err, answer=answer: answer)
        assert command(monkeypatch, *words) == code
        assert (tmp_path / "here").exists() == answer
    shutil.rmtree(tmp_path / "here")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert command(monkeypatch, *words, "--yes") == 0
    assert held(tmp_path / "here") == data_files(hub)


def test_words_for_sizes():
    assert [size_words(n) for n in (0, 999, 1_895_424, 744 * 10**9, 41_200 * 10**9)] == [
        "0 B",
        "999 B",
        "1.9 MB",
        "744 GB",
        "41.2 TB",
    ]


def test_the_imitation_serves_files_that_open(tmp_path):
    assert netcdf(1) == netcdf(1) != netcdf(2)
