"""Bad input to every verb: one line on standard error, the right exit code, nothing left behind."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from subgrid.cli.app import main

Damage = Callable[[Path, Path], object]

TRAIN = ["train", "data=x", "out=y"]
GENERATE = ["data", "generate", "out=x"]
CONVERT, SAMPLE = ["data", "convert", "climsim", "x", "y"], ["data", "sample", "climsim", "x"]
KAGGLE = ["data", "convert", "kaggle", "x", "y", "--grid", "z"]
USAGE, FAILED = 2, 1

#: Words and what the one line must say; refused before anything is read.
WRONG_WORDS: list[tuple[list[str], str]] = [
    (["trian"], "train"),
    (["train", "--hlep"], "--help"),
    (["train", "foo"], "key=value"),
    (["train", "=3"], "key=value"),
    (["train", "data=x"], "out is required"),
    (["data", "generate"], "out is required"),
    (["data", "inof"], "info"),
    (["data", "download", "climsim", "--config", "low-rse", "--out", "x"], "low-res"),
    (["data", "download", "climsim", "--config", "low-res", "--out", "x", "--months", "february"], "YYYY-MM"),
    (["data", "download", "climsim", "--config", "low-res", "--out", "x", "--months", "0001-03:0001-02"], "backwards"),
    (["data", "download", "climsim", "--config", "low-res", "--out", "x", "--split", "vla"], "val"),
    (["data", "download", "climsim", "--config", "low-res", "--out", "x", "--stride", "0"], "stride"),
    (["data", "download", "climsim", "--config", "low-res"], "--out"),
    (["data", "copy", "x", "x/"], "both source and target"),
    (["data", "copy", "x", "s33://bucket/x"], "s3"),
    (["data", "copy", "x"], "Missing argument"),
    (["data", "convert", "climsin", "x", "y"], "climsim"),
    ([*CONVERT], "--variables"),
    ([*CONVERT, "--variables", "v2_rh_m"], "v2_rh_mc"),
    ([*CONVERT, "--variables", "speedy"], "not of ClimSim"),
    ([*CONVERT, "--variables", "v1", "--split", "train,tset"], "test"),
    ([*CONVERT, "--variables", "v1", "--on-error", "skipp"], "skip"),
    ([*CONVERT, "--variables", "v1", "--worker", "2"], "--workers"),
    ([*CONVERT, "--variables", "v1", "--workers", "0"], "workers=0"),
    ([*SAMPLE, "--days", "0"], "days=0"),
    ([*SAMPLE, "--format", "cdf"], "cdf5"),
    ([*SAMPLE, "--levels", "3"], "levels=3"),
    (["evaluate"], "Missing argument"),
    (["study", "stability"], "Missing option"),
    ([*TRAIN, "recipe.epoch=3"], "recipe.epochs"),
    ([*TRAIN, "architecture=unte"], "unet"),
    ([*TRAIN, "architecture=os.system"], "unknown architecture 'os.system'"),
    ([*TRAIN, "architecture.width=[16]"], "widths"),
    ([*TRAIN, "size=smal"], "small"),
    ([*TRAIN, "recipe=standart"], "standard"),
    ([*TRAIN, "recipe.epochs=three"], "epochs"),
    ([*TRAIN, "recipe.epochs=0"], "epochs"),
    ([*TRAIN, "recipe.batch_size=-1"], "batch_size"),
    ([*TRAIN, "recipe.learning_rate=-1.0"], "learning_rate"),
    ([*TRAIN, "recipe.learning_rate=nan"], "learning_rate"),
    ([*TRAIN, "recipe.learning_rate=inf"], "learning_rate"),
    ([*TRAIN, "recipe.warmup=1.5"], "warmup"),
    ([*TRAIN, "recipe.energy_weight=2.0"], "energy_weight"),
    ([*TRAIN, "recipe.perturbed_weight=-1.0"], "perturbed_weight"),
    ([*TRAIN, "recipe.loss=mze"], "mse"),
    ([*TRAIN, "recipe=fifth_place"], "fifth_place_a"),
    ([*TRAIN, "recipe.schedule=multstep"], "multistep"),
    ([*TRAIN, "recipe.schedule=multistep"], "milestones"),
    ([*TRAIN, "recipe.schedule=multistep", "recipe.milestones=[6,3]"], "rising"),
    ([*TRAIN, "recipe.schedule=multistep", "recipe.milestones=[3]", "recipe.gamma=2.0"], "gamma"),
    ([*TRAIN, "recipe.accumulate=0"], "accumulate"),
    ([*TRAIN, "recipe.accumulate=half"], "accumulate"),
    ([*TRAIN, "recipe.keep=frist"], "best"),
    ([*TRAIN, "recipe.swa_from=99"], "swa_from"),
    ([*TRAIN, "recipe.swa_from=2", "recipe.average_checkpoints=3"], "choose one"),
    ([*TRAIN, "recipe.average_checkpoints=1"], "average_checkpoints"),
    ([*TRAIN, "recipe.ema_every=0"], "ema_every"),
    ([*TRAIN, "recipe.second_weight=0.0"], "second_weight"),
    ([*TRAIN, "recipe.mse_weight=-1.0"], "mse_weight"),
    ([*TRAIN, "recipe.polish_epochs=2"], "recipe.loss=mse"),
    ([*TRAIN, "recipe.loss=mae", "recipe.polish_epochs=14"], "polish_epochs=14"),
    ([*TRAIN, "recipe.loss=mae", "recipe.polish_learning_rate=1e-4"], "polish_learning_rate"),
    ([*TRAIN, "recipe.outputs=evaporation"], "recipe.outputs"),
    ([*TRAIN, "emulator.mask=evaporation"], "emulator.mask"),
    ([*TRAIN, "emulator.mask_to=nill"], "zero"),
    ([*TRAIN, "emulator.paper_compatible=true"], "multirepresentation"),
    ([*TRAIN, "architecture=fifth_place"], "fifth_place_a"),
    ([*TRAIN, "architecture=fifth_place_b", "architecture.pool=max"], "mean"),
    ([*TRAIN, "emulator.normalization=poled"], "pooled"),
    ([*TRAIN, "recipe=fifth_place_b", "emulator.normalization=computed"], "emulator.normalization=pooled"),
    ([*TRAIN, "emulator.inputs=fith_place"], "fifth_place"),
    ([*TRAIN, "transforms=refitted"], "from=RUN"),
    ([*TRAIN, "transforms=kep"], "kept"),
    ([*TRAIN, "form=run"], "from"),
    ([*TRAIN, "emulator.inputs=rw"], "raw"),
    ([*TRAIN, "emulator.clip_input=true"], "clip_inputs"),
    ([*TRAIN, "emulator.clip_inputs=maybe"], "clip_inputs"),
    ([*TRAIN, "emulator.clip_margin=nan"], "clip_margin"),
    ([*TRAIN, "emulator.condense_hours=0.0"], "condense_hours"),
    ([*TRAIN, "emulator.water=projektion"], "projection"),
    ([*TRAIN, "emulator.energy=projektion"], "projection"),
    ([*TRAIN, "emulator.normalization=offical"], "official"),
    ([*TRAIN, "emulator.normalisation=official"], "emulator.normalization"),
    ([*TRAIN, "emulator.prune_inputs=-1"], "must be at least 0"),
    ([*TRAIN, "emulator.prune_outputs=many"], "prune_outputs"),
    ([*TRAIN, "precision=bf16-true"], "bf16-mixed"),
    ([*TRAIN, "seed=one"], "seed"),
    ([*TRAIN, "seed=-1"], "seed"),
    ([*TRAIN, "buffer_blocks=0"], "buffer_blocks"),
    ([*TRAIN, "max_train_samples=0"], "max_train_samples"),
    ([*TRAIN, "log_every=0"], "log_every"),
    ([*TRAIN, "_target_=os.system"], "unknown option '_target_'"),
    ([*TRAIN, "data=${oc.env:HOME}"], "interpolation"),
    ([*TRAIN, "seed=${oc.env:SHLVL}"], "interpolation"),
    ([*TRAIN, "hydra.run.dir=z"], "unknown option 'hydra.run.dir'"),
    ([*GENERATE, "stride=12"], "shares a factor"),
    ([*GENERATE, "host=speddy"], "speedy"),
    ([*GENERATE, "host.truncation=42"], "21 or 31"),
    ([*GENERATE, "host.truncatoin=21"], "host.truncation"),
    ([*GENERATE, "host.levels=1000000000"], "levels"),
    ([*GENERATE, "host.start=yesterday"], "ISO date"),
    ([*GENERATE, "host.time_step_minutes=7"], "does not divide a day"),
    ([*GENERATE, "host.time_step_minutes=0"], "time_step_minutes"),
    ([*GENERATE, "fraction=2.0"], "fraction"),
    ([*GENERATE, "fraction=nan"], "fraction"),
    ([*GENERATE, "perturbed_fraction=1.5"], "perturbed_fraction"),
    ([*GENERATE, "train_days=0"], "train_days"),
    ([*GENERATE, "gap_days=-1"], "gap_days"),
    ([*GENERATE, "seed=-3"], "seed"),
    (["couple", "x", "dayz=3"], "days"),
    (["couple", "x", "data=y", "days=0"], "days"),
    (["couple", "x", "data=y", "days=three"], "days='three' must be of type int"),
    (["couple", "x", "data=y", "trust=1"], "trust=1 must be of type bool"),
    (["couple", "x", "data=y", "bridge=calback"], "callback"),
    (["couple", "x", "data=y", "keep=surfaces"], "surface"),
    (["evaluate", "x", "splt=test"], "split"),
    (["evaluate", "x", "members=1"], "members=1 must be at least 2"),
    (["evaluate", "x", "members=all"], "members=all must be at least 2"),
    (["evaluate", "x", "seed=-1"], "seed=-1"),
    (["evaluate", "x", "trust=perhaps"], "trust"),
    (["evaluate", "x", "varables=v2_rh"], "variables"),
    (["export", "x", "dat=y"], "data"),
    (["data", "convert", "kagle", "x", "y"], "kaggle"),
    ([*KAGGLE[:-2]], "--grid ClimSim_low-res_grid-info.nc"),
    ([*KAGGLE, "--test-share", "1.5"], "test_share=1.5"),
    ([*KAGGLE, "--validation-share", "half"], "--validation-share"),
    ([*KAGGLE, "--validation-share", "0.5", "--test-share", "0.5"], "below 1"),
    ([*KAGGLE, "--variables", "kaggel"], "kaggle"),
    ([*KAGGLE, "--variables", "speedy"], "not of ClimSim"),
    (["data", "convert", "npy", "x", "y", "--normalization", "z"], "--grid"),
    (["data", "convert", "npy", "x", "y", "--grid", "z"], "--normalization"),
    (["predict", "x", "test.csv"], "--out"),
    (["predict", "x", "test.csv", "--out", "s.txt"], "must end in .csv or .parquet"),
    (["predict", "x", "test.zip", "--out", "s.csv"], "unpack"),
    (["predict", "x", "test.csv", "--out", "s.csv", "--fill", "cam_in_SNOWHICE"], "NAME=VALUE"),
    (["predict", "x", "test.csv", "--out", "s.csv", "--fill", "snow=0"], "no such variable"),
    (["predict", "x", "test.csv", "--out", "s.csv", "--fill", "cam_in_SNOWHICE=nan"], "finite"),
    (["score", "s.csv"], "Missing argument"),
    (["score", "s.txt", "t.csv"], "unpack"),
    (["finetune"], "Missing argument"),
    (["finetune", "x", "out=y", "from=z"], "from="),
    (["blend"], "Missing argument"),
    (["blend", "x", "out=y"], "at least two"),
    (["blend", "x", "y"], "out is required"),
    (["blend", "x", "y", "out=z", "objective=r3"], "r2"),
    (["blend", "x", "y", "out=z", "groups=al"], "all"),
    (["blend", "x", "y", "out=z", "negativ=false"], "negative"),
    ([*TRAIN, "variables=speedy", "devices=0"], "devices=0"),
    ([*TRAIN, "variables=speedy", "devices=two"], "devices"),
    ([*TRAIN, "variables=speedy", "accelerator=gpus"], "gpu"),
    ([*TRAIN, "variables=speedy", "devices=3"], "must be a multiple of the 3 processes"),
    (["push", "x"], "Missing argument"),
    (["push", "x", "y"], "neither OWNER/NAME nor a folder"),
    (["push", "x", "./y", "--create"], "are for the hub"),
    (["push", "x", "a/b", "--checkpoint"], "--checkpoints"),
    (["pull", "a/b"], "Missing argument"),
    (["pull", "a b/c", "y"], "neither OWNER/NAME nor a folder"),
    (["sweep", "data=x", "architecture=mlp"], "out is required"),
    (["sweep", "out=x"], "data is required"),
    (["sweep", "data=x", "out=y", "wrokers=2"], "workers"),
    (["sweep", "data=x", "out=y", "variables=speedy", "architecture=mlp,unte"], "unet"),
    (["sweep", "data=x", "out=y", "variables=speedy", "recipe.epochs=1,0"], "epochs"),
    (["sweep", "data=x", "out=y", "variables=speedy", "launcher=slrum"], "slurm"),
    (["sweep", "data=x", "out=y", "workers=many"], "workers"),
    (["sweep", "data=x", "out=y", "seed=1,"], "EOF"),
    (["sweep", "staus", "x"], "status"),
    (["list", "archs"], "architectures"),
    (["list", "recipes", "--size", "paper"], "for list architectures"),
    (["list", "architectures", "--size", "papr"], "paper"),
    (["list", "architectures", "--recipe", "confidense"], "confidence"),
    (["list", "architectures", "--variables", "v2_rh_m"], "v2_rh_mc"),
    (["list", "architectures", "--levels", "2"], "at least 4"),
    (["list", "--recipe", "expanded", "--variables", "speedy_keep_diffusion"], "'speedy_keep_diffusion'"),
    (["study", "stabilty", "--out", "x", "--data", "y"], "stability"),
]


@dataclass(frozen=True)
class Case:
    """Damaged or foreign files: ``{store}`` and ``{run}`` are copies that ``damage`` has changed."""

    words: tuple[str, ...]
    says: str
    damage: Callable[[Path, Path], object] = lambda store, run: None
    code: int = FAILED


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def attributes(key: str, value: Any) -> Damage:
    """Damage: an attribute of the store."""
    return lambda store, run: edit(store / "zarr.json", lambda c: c["attributes"].update({key: value}))


def emulator(key: str, value: Any) -> Damage:
    """Damage: an entry of the emulator's description."""
    return lambda store, run: edit(run / "emulator" / "emulator.json", lambda c: c.update({key: value}))


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Damage: the emulator's weights."""

    def damage(store: Path, run: Path) -> None:
        file = run / "emulator" / "weights.safetensors"
        state = load_file(file)
        change(state)
        save_file(state, file)

    return damage


def nan_in_a_chunk(store: Path, run: Path) -> None:
    file = store / "train" / "inputs" / "c" / "0" / "0"
    values = np.fromfile(file, np.float32)
    values[7] = np.nan
    values.tofile(file)


def other_config(store: Path, run: Path) -> None:
    (run / "metrics.json").unlink()
    edit(run / "config.json", lambda c: c.update(seed=99))


def a_restart(store: Path, run: Path) -> None:
    (store / "restarts").mkdir()
    (store / "restarts" / "2000-01-01.safetensors").write_bytes(b"not a state")


def foreign(width: int) -> Damage:
    """A stranger's TorchScript in the run, ``net.pt``, that takes so many numbers and gives as many."""

    def damage(store: Path, run: Path) -> None:
        torch.jit.script(torch.nn.Linear(width, width)).save(str(run / "net.pt"))

    return damage


def published_folder(store: Path, run: Path) -> None:
    """The run's emulator says that it is a published network."""
    emulator("published", "published.pt")(store, run)
    torch.jit.script(torch.nn.Identity()).save(str(run / "emulator" / "published.pt"))


def no_netcdf(store: Path, run: Path) -> None:
    """Files with the names of ClimSim's in the folder `empty`."""
    for part in ("mean", "max", "min"):
        (store.parent / "empty" / f"input_{part}.nc").write_bytes(b"CDF\x09")


def begun(file: str, content: dict[str, Any], also: Damage | None = None) -> Damage:
    """Damage: a result that another version left in the folder `out`."""

    def damage(store: Path, run: Path) -> None:
        if also is not None:
            also(store, run)
        (store.parent / "out").mkdir()
        (store.parent / "out" / file).write_text(json.dumps(content))

    return damage


def a_test_file(store: Path, run: Path) -> None:
    """A test file of the competition with one row."""
    from subgrid.columns.kaggle.layout import INPUT_LABELS, TEST_HEADER

    (store.parent / "out").mkdir()
    rows = [TEST_HEADER, ["test_0", *["1.0"] * len(INPUT_LABELS)]]
    (store.parent / "out" / "test.csv").write_text("".join(",".join(row) + "\n" for row in rows))


def flipped_weight(store: Path, run: Path) -> None:
    file = run / "emulator" / "weights.safetensors"
    held = bytearray(file.read_bytes())
    held[-5] ^= 1
    file.write_bytes(held)


def first_weight(state: dict[str, torch.Tensor]) -> str:
    return next(name for name in state if name.startswith("network"))


CLIMSIM = ("data", "convert", "climsim", "{empty}", "{out}", "--variables", "v1")
NEW = ("train", "data={store}", "out={out}", "recipe.epochs=1", "recipe.batch_size=64")
SCORE, COUPLE = ("evaluate", "{run}", "data={store}", "out={out}"), ("couple", "{run}", "data={store}", "out={out}")
EXPORT, INFO = ("export", "{run}", "data={store}", "--out", "{out}"), ("data", "info", "{store}")
OFFICIAL = (*NEW, "emulator.normalization=official", "emulator.inputs=raw")
NORMS = "emulator.normalization_folder={}"
PUBLISHED = ("variables=v2_rh", "data={store}", "out={out}")
CASES = {
    "train: no store": Case(("train", "data=nowhere", "out=y"), "nowhere does not exist"),
    "info: no store": Case(("data", "info", "nowhere"), "nowhere does not exist"),
    "train: no second store": Case((*NEW, "data2=nowhere"), "nowhere does not exist"),
    "train: no run to begin with": Case((*NEW, "from=nowhere"), "holds no emulator"),
    "train: a run of another network to begin with": Case(
        (*NEW, "from={run}", "architecture.widths=[5]"), "which has another size of the network", code=USAGE
    ),
    "train: engineered profiles without cloud": Case(
        (*NEW, "emulator.inputs=fifth_place"), "fifth_place needs cloud_liquid", code=USAGE
    ),
    "evaluate: no run": Case(("evaluate", "nowhere", "data=nowhere"), "holds no emulator"),
    "couple: no store": Case(("couple", "nowhere", "data=nowhere"), "does not exist"),
    "export: no run": Case(("export", "nowhere", "data=nowhere"), "holds no emulator"),
    "report: no folder": Case(("report", "nowhere"), "nowhere"),
    "report: an empty folder": Case(("report", "{empty}"), "empty"),
    "report: a seed without scores": Case(
        ("report", "{out}", "--seeds", "{empty}"),
        "run subgrid evaluate RUN metrics=climsim",
        begun("scores.json", {"kind": "subgrid evaluation", "format_version": 1, "models": {}}),
    ),
    "evaluate: unknown metrics": Case((*SCORE, "metrics=climsin"), "climsim", code=USAGE),
    "train: nodes without a launcher": Case(
        ("train", "data={store}", "out={out}", "num_nodes=2", "recipe.batch_size=64"), "torchrun or srun", code=USAGE
    ),
    "push: no run": Case(("push", "{empty}", "./x"), "is no run folder with an emulator"),
    "push: not finished": Case(
        ("push", "{run}", "./x"), "is not finished", lambda store, run: (run / "metrics.json").unlink()
    ),
    "push: damaged weights": Case(("push", "{run}", "./x"), "damaged", flipped_weight),
    "push: a folder that is there": Case(("push", "{run}", "{empty}"), "is there already"),
    "pull: no such folder": Case(("pull", "{out}", "./x"), "holds no run that subgrid pushed"),
    "pull: a target that is there": Case(("pull", "./x", "{run}"), "is there already"),
    "finetune: no run": Case(("finetune", "nowhere", "out={out}"), "nowhere holds no emulator"),
    "finetune: no such group": Case(
        ("finetune", "{run}", "data={store}", "out={out}", "groups=[[evaporatoin]]"), "evaporation", code=USAGE
    ),
    "finetune: groups of no kind": Case(
        ("finetune", "{run}", "data={store}", "out={out}", "groups=profile"), "profiles", code=USAGE
    ),
    "train: no such output": Case(
        ("train", "data={store}", "out={out}", "recipe.batch_size=256", "recipe.outputs=[evaporatoin]"),
        "evaporation",
        code=USAGE,
    ),
    "train: a mask beyond the levels": Case(
        ("train", "data={store}", "out={out}", "recipe.batch_size=256", "emulator.mask=[temperature_tendency:9]"),
        "levels are 0 to 7",
        code=USAGE,
    ),
    "evaluate: members of one answer": Case(
        ("evaluate", "{run}", "data={store}", "out={out}", "members=4"), "one answer", code=USAGE
    ),
    "blend: no run": Case(("blend", "{run}", "nowhere", "out={out}"), "nowhere holds no emulator"),
    "blend: no split": Case(("blend", "{run}", "{run}", "out={out}", "split=tset"), "tset", code=USAGE),
    "blend: below a file": Case(("blend", "{run}", "{run}", "data={store}", "out={file}/x"), "cannot write"),
    "blend: a damaged count": Case(SCORE, "is damaged", emulator("blend", "many")),
    "blend: a blend": Case(
        ("blend", "{run}", "{run}", "data={store}", "out={out}"), "holds a blend", emulator("blend", 2)
    ),
    "sweep: no store": Case(("sweep", "data=nowhere", "out=y", "seed=1,2"), "nowhere does not exist"),
    "sweep: out is a file": Case(("sweep", "data={store}", "out={file}", "seed=1,2"), "cannot write"),
    "sweep: status of no sweep": Case(("sweep", "status", "{empty}"), "holds no sweep"),
    "sweep: status of another version": Case(
        ("sweep", "status", "{out}"),
        "sweep format version 9, this subgrid reads version 1",
        begun("sweep.json", {"kind": "subgrid sweep", "format_version": 9}),
    ),
    "study: no store": Case(("study", "stability", "--out", "{out}", "--data", "nowhere"), "nowhere does not exist"),
    "study: another kind of store": Case(
        ("study", "stability", "--out", "{out}", "--data", "{store}"), "holds no restarts"
    ),
    "kaggle: no grid file": Case((*KAGGLE[:3], "nowhere.csv", "{out}", "--grid", "nowhere.nc"), "does not exist"),
    "kaggle: no grid at all": Case(
        (*KAGGLE[:3], "nowhere.csv", "{out}", "--grid", "{file}"), "cannot be read as netCDF"
    ),
    "npy: no grid file": Case(
        ("data", "convert", "npy", "{empty}", "{out}", "--grid", "nowhere.nc", "--normalization", "{empty}"),
        "nowhere.nc does not exist",
    ),
    "predict: no test file": Case(
        ("predict", "{run}", "nowhere.csv", "--out", "{out}.csv"), "nowhere.csv does not exist"
    ),
    "predict: another file": Case(
        ("predict", "{run}", "{out}/sample.csv", "--out", "{out}.csv"),
        "its header is not the competition's",
        begun("sample.csv", {}),
    ),
    "score: no submission": Case(("score", "nowhere.csv", "nowhere.parquet"), "nowhere.csv does not exist"),
    "score: a test file": Case(
        ("score", "{out}/test.csv", "{out}/test.csv"), "its header is not the competition's", a_test_file
    ),
    "predict: no run": Case(
        ("predict", "{empty}", "{out}/test.csv", "--out", "{out}.csv"), "holds no emulator", a_test_file
    ),
    "predict: an emulator of another host": Case(
        ("predict", "{run}", "{out}/test.csv", "--out", "{out}.csv"), "does not predict ptend_t", a_test_file, USAGE
    ),
    "unfinished store": Case(INFO, "is unfinished", lambda s, r: s.rename(s.with_name(s.name + ".partial"))),
    "a file as store": Case(("data", "info", "{file}"), "not a finished column store"),
    "a folder as store": Case(("data", "info", "{empty}"), "no zarr.json"),
    "store: another kind": Case(INFO, "does not describe a column store", attributes("kind", "zarr")),
    "store: another version": Case(
        INFO, "column store format version 99, this subgrid reads", attributes("format_version", 99)
    ),
    "store: description is not JSON": Case(INFO, "zarr.json", lambda s, r: (s / "zarr.json").write_bytes(b"\x80\x04]")),
    "store: a damaged grid": Case(INFO, "damaged store description", attributes("grid", {"latitude": "x"})),
    "store: absurd blocks": Case(INFO, "truncated", attributes("block", 10**18)),
    "store: blocks of none": Case(INFO, "block is 0", attributes("block", 0)),
    "store: splits outside": Case(INFO, "damaged list of splits", attributes("splits", ["../../elsewhere"])),
    "store: arrays outside": Case(INFO, "damaged store description", attributes("arrays", {"../up": []})),
    "store: time step": Case(INFO, "time_step", attributes("time_step", float("inf"))),
    "store: a chunk is missing": Case(INFO, "is missing", lambda s, r: (s / "train/targets/c/0/0").unlink()),
    "store: a chunk is cut": Case(INFO, "is truncated", lambda s, r: (s / "test/inputs/c/1/0").write_bytes(b"1234")),
    "store: NaN": Case(NEW, "temperature (1 of 2048)", nan_in_a_chunk),
    "store: no statistics": Case(NEW, "damaged statistics", lambda s, r: shutil.rmtree(s / "train/targets_std")),
    "store: without validation": Case(NEW, "no split 'validation'", attributes("splits", ["train", "test"]), USAGE),
    "store: without the variables": Case(
        (*NEW, "variables=speedy_keep_diffusion"), "lacks temperature_tendency_diffusion", code=USAGE
    ),
    "unknown variables": Case((*NEW, "variables=speedi"), "speedy", code=USAGE),
    "a batch larger than the store": Case((*NEW, "recipe.batch_size=1000000"), "fewer than one batch", code=USAGE),
    "train: out is a file": Case((*NEW[:2], "out={file}", *NEW[3:]), "cannot write"),
    "train: below a file": Case((*NEW[:2], "out={file}/run", *NEW[3:]), "cannot write"),
    "train: another config": Case((*NEW[:2], "out={run}", *NEW[3:]), "was begun with another", other_config),
    "train: another version": Case(
        (*NEW[:2], "out={run}", *NEW[3:]),
        "config.json has training run format version 9, this subgrid reads version 1",
        lambda s, r: edit(r / "config.json", lambda c: c.update(format_version=9)),
    ),
    "train: config is not JSON": Case(
        (*NEW[:2], "out={run}", *NEW[3:]), "config.json", lambda s, r: (r / "config.json").write_text("{")
    ),
    "copy: no store": Case(("data", "copy", "{empty}", "copy"), "no zarr.json"),
    "copy: workers": Case(("data", "copy", "{store}", "copy", "--workers", "0"), "workers=0", code=USAGE),
    "copy: onto other files": Case(("data", "copy", "{store}", "{run}"), "exists already and is no copy"),
    "copy: below a file": Case(("data", "copy", "{store}", "{file}/copy"), "cannot write"),
    "copy: no description": Case(
        ("data", "copy", "{store}", "copy"), "not a finished column store", lambda s, r: (s / "zarr.json").unlink()
    ),
    "convert: no folder": Case((*CLIMSIM[:3], "nowhere", *CLIMSIM[4:]), "nowhere is no folder"),
    "convert: no files": Case(CLIMSIM, "holds no file E3SM-MMF.*.nc"),
    "convert: another's store": Case((*CLIMSIM[:4], "{store}", *CLIMSIM[5:]), "holds no file E3SM-MMF.*.nc"),
    "sample: below a file": Case(("data", "sample", "climsim", "{file}/x", "--columns", "4"), "cannot write"),
    "generate: exists": Case(("data", "generate", "out={store}"), "exists already"),
    "generate: below a file": Case(("data", "generate", "out={file}/store"), "cannot write"),
    "evaluate: changed, but no folder": Case(
        ("evaluate", "{run}", "data={store}", "emulator.energy=level"),
        "give these scores a folder with out=",
        code=USAGE,
    ),
    "evaluate: an unknown change": Case((*SCORE, "emulator.energie=level"), "did you mean energy", code=USAGE),
    "train: a budget that is open": Case((*NEW, "emulator.water=level"), "recipe.water_penalty=0.1", code=USAGE),
    "train: penalties of all": Case((*NEW, "recipe.energy_penalty=1"), "together be below 1", code=USAGE),
    "generate: seas": Case(("data", "generate", "host=speedy", "out={out}", "host.sst=4K"), "such as +4K", code=USAGE),
    "evaluate: unknown split": Case((*SCORE, "split=tset"), "has no split 'tset'", code=USAGE),
    "evaluate: a foreign folder": Case(("evaluate", "{store}", "data={store}"), "holds no emulator"),
    "evaluate: below a file": Case((*SCORE[:3], "out={file}/scores"), "cannot write"),
    "emulator: not JSON": Case(
        SCORE, "emulator.json", lambda s, r: (r / "emulator/emulator.json").write_bytes(b"\xff")
    ),
    "emulator: another kind": Case(SCORE, "does not describe an emulator", emulator("kind", "model")),
    "emulator: another version": Case(SCORE, "emulator format version 7", emulator("format_version", 7)),
    "emulator: code by name": Case(SCORE, "os.system", emulator("architecture", "os.system"), USAGE),
    "emulator: absurd width": Case(SCORE, "widths", emulator("hyperparameters", {"widths": [10**12]}), USAGE),
    "emulator: larger than its file": Case(SCORE, "needs", emulator("hyperparameters", {"widths": [60000, 60000]})),
    "emulator: unknown setting": Case(SCORE, "emulator setting", emulator("emulator", {"clip": True}), USAGE),
    "emulator: no weights": Case(SCORE, "does not exist", lambda s, r: (r / "emulator/weights.safetensors").unlink()),
    "emulator: cut weights": Case(
        SCORE,
        "damaged",
        lambda s, r: (r / "emulator/weights.safetensors").write_bytes(b"\x10" + bytes(30)),
    ),
    "emulator: a flipped byte": Case(SCORE, "its checksum differs", flipped_weight),
    "emulator: a header of terabytes": Case(
        SCORE,
        "damaged",
        lambda s, r: (r / "emulator/weights.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}"),
    ),
    "emulator: NaN": Case(SCORE, "NaN or infinity", weights(lambda w: w[first_weight(w)].fill_(float("nan")))),
    "emulator: another shape": Case(
        SCORE, "does not fit", weights(lambda w: w.update({first_weight(w): torch.zeros(2, 2)}))
    ),
    "emulator: a weight lacks": Case(SCORE, "does not fit", weights(lambda w: w.pop(first_weight(w)))),
    "official: no folder": Case(OFFICIAL, "'' is not a folder; name theirs", code=USAGE),
    "official: a file as folder": Case((*OFFICIAL, NORMS.format("{file}")), "is not a folder", code=USAGE),
    "official: an empty folder": Case((*OFFICIAL, NORMS.format("{empty}")), "has no input_mean.nc"),
    "official: a named file lacks": Case(
        (*OFFICIAL, NORMS.format("{empty}"), "emulator.normalization_inputs=mine_*.nc"), "has no mine_mean.nc"
    ),
    "official: not netCDF": Case((*OFFICIAL, NORMS.format("{empty}")), "cannot be read as netCDF", no_netcdf),
    "official: with features": Case(OFFICIAL[:-1], "add emulator.inputs=raw", code=USAGE),
    "published: not TorchScript": Case(("evaluate", "{file}", *PUBLISHED), "is not TorchScript"),
    "published: no variables": Case(
        ("evaluate", "{run}/net.pt", "data={store}", "out={out}"), "name its variables", foreign(9), USAGE
    ),
    "published: unknown variables": Case(
        ("export", "{run}/net.pt", "data={store}", "--out", "{out}", "variables=v2_hr"), "v2_rh", foreign(9), USAGE
    ),
    "published: no store": Case(("evaluate", "{run}/net.pt", "variables=v2_rh"), "add data=STORE", foreign(9), USAGE),
    "published: another width": Case(("evaluate", "{run}/net.pt", *PUBLISHED), "does not take 89 numbers", foreign(9)),
    "published: it gives another width": Case(
        ("export", "{run}/net.pt", *PUBLISHED[:2], "--out", "{out}"), "gives (8, 89), expected is (8, 56)", foreign(89)
    ),
    "published: a run with variables": Case(("evaluate", "{run}", *PUBLISHED), "says itself what it reads", code=USAGE),
    "published: not trusted": Case(SCORE, "trust=true on the command line", published_folder),
    "published: a damaged description": Case((*SCORE, "trust=true"), "'variables_named'", published_folder),
    "couple: a published network": Case(
        ("couple", "{run}/net.pt", *PUBLISHED),
        "gives (8, 89), expected is (8, 56)",
        lambda s, r: (a_restart(s, r), foreign(89)(s, r)),
    ),
    "couple: no restarts": Case(COUPLE, "holds no restarts", code=USAGE),
    "couple: no such date": Case((*COUPLE, "start=1999-01-01"), "it has 2000-01-01", a_restart, USAGE),
    "couple: a store of no host": Case((*COUPLE, "timings=false"), "does not say how its host was set", a_restart),
    "couple: unknown constraint": Case((*COUPLE, "emulator.clip_output=true"), "clip_outputs", a_restart, USAGE),
    "couple: other features": Case((*COUPLE, "emulator.inputs=raw"), "cannot change after training", a_restart),
    "couple: another version": Case(
        COUPLE,
        "coupled run format version 9, this subgrid reads version 1",
        begun("config.json", {"kind": "subgrid coupled run", "format_version": 9}, a_restart),
    ),
    "report: an evaluation of another version": Case(
        ("report", "{out}"),
        "evaluation format version 9, this subgrid reads version 1",
        begun("scores.json", {"kind": "subgrid evaluation", "format_version": 9, "models": {}}),
    ),
    "report: a bundle of another version": Case(
        ("report", "{out}"),
        "bundle format version 9, this subgrid reads version 1",
        begun("report.json", {"kind": "subgrid bundle", "format_version": 9, "max_relative_difference": 0.0}),
    ),
    "export: below a file": Case((*EXPORT[:3], "--out", "{file}/bundle"), "cannot write"),
    "export: something else there": Case((*EXPORT[:3], "--out", "{run}"), "is there and holds no bundle"),
    "export: no such target": Case((*EXPORT, "--target", "cesm"), "--target 'cesm'", code=USAGE),
    "export: not what E3SM hands over": Case((*EXPORT, "--target", "e3sm"), "v2_rh_mc", code=USAGE),
    "export: no name for Fortran": Case((*EXPORT, "name=U-Net"), "cannot name a Fortran module", code=USAGE),
    "export: not finished": Case(EXPORT, "is not finished", lambda store, run: (run / "metrics.json").unlink()),
    "export: no coupled run": Case((*EXPORT, "online={empty}"), "is no finished coupled run"),
    "verify: no bundle": Case(("verify", "{empty}"), "is no bundle (contract.json is missing)"),
    "export: an empty data": Case(("export", "{run}", "data={empty}"), "no zarr.json"),
}


def refused(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """The exit code and the line of a command."""
    monkeypatch.setattr(sys, "argv", ["subgrid", "--quiet", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    # a stranger's file is named as such, whatever comes of it
    said = "".join(line for line in capsys.readouterr().err.splitlines(True) if "loading it executes code" not in line)
    assert said.startswith("subgrid: ") and said.count("\n") == 1, said
    return stop.value.code, said


def tree(folder: Path) -> dict[str, int | None]:
    """Everything below ``folder`` with its size."""
    return {str(p.relative_to(folder)): p.stat().st_size if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(("words", "says"), WRONG_WORDS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_wrong_words(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said = refused(words, monkeypatch, capsys)
    assert code == USAGE and says in said, said
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("name", CASES)
def test_bad_files(name, tmp_path, monkeypatch, capsys, tiny_store, tiny_run):
    case = CASES[name]
    here = {n: tmp_path / n for n in ("store", "run", "out", "empty", "file")}
    shutil.copytree(tiny_store.path, here["store"])
    shutil.copytree(tiny_run, here["run"])
    here["empty"].mkdir()
    here["file"].write_text("text")
    case.damage(here["store"], here["run"])
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    code, said = refused([word.format(**here) for word in case.words], monkeypatch, capsys)
    assert code == case.code and case.says in said, said
    assert tree(tmp_path) == before
