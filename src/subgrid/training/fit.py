"""Training runs: a folder with config, logs, checkpoints, metrics and the emulator; resumed if it was cut."""

from __future__ import annotations

import json
import logging
import time
import warnings
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from subgrid.base.errors import SubgridError, UsageError, require_seed, unknown_name
from subgrid.base.files import make_folder, only_writer, remove_leftovers, write_json
from subgrid.base.formats import RUN, read_record, write_record
from subgrid.base.logs import log_file
from subgrid.base.provenance import provenance
from subgrid.columns.loader import ColumnLoader
from subgrid.columns.normalisation import with_fill
from subgrid.columns.store import ColumnStore, open_store
from subgrid.columns.variables import VariableSet, variable_set
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.emulator import Emulator, build_emulator
from subgrid.emulator.files import load_emulator, save_emulator
from subgrid.training.averaging import averaging, shipped_weights
from subgrid.training.batches import TorchBatches
from subgrid.training.callbacks import RandomState, Reporter
from subgrid.training.checkpoints import AtomicCheckpoints, BestCheckpoint, PeriodicCheckpoint, TopCheckpoints
from subgrid.training.closure import require_closed
from subgrid.training.processes import (
    ACCELERATORS,
    Processes,
    SameStart,
    tell_of_batch_norms,
    this_process,
)
from subgrid.training.recipes import Recipe, RecipeConfig, recipe, recipe_names
from subgrid.training.recipes.standard import channel_weights
from subgrid.training.start import TRANSFORMS, start_from
from subgrid.training.statistics import fit_transforms
from subgrid.training.task import EmulatorTask

logger = logging.getLogger("subgrid")
PRECISIONS = ("32-true", "bf16-mixed")
#: Settings that change no result beyond rounding: a cut run may go on with others.
_PLACE = ("log_every", "checkpoint_every", "accelerator", "devices", "num_nodes", "compile")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Args:
        data: the column store.
        data2: a second store, of the same variables and vertical grid: every batch has as many of its columns beside
            those of the first, with weights of their own in the loss. Transforms and validation are of the first.
        from_run: run folder whose weights training begins with; variables, grid, architecture and inputs are the same.
        transforms: its normalisation is ``kept``, or ``refitted`` to the columns of ``data``.
        variables: variable set, held by the store.
        architecture: registered name.
        size: ``small`` or ``paper``.
        network: hyper-parameters that replace those of the size.
        recipe: registered name.
        recipe_settings: settings that replace the recipe's defaults.
        emulator: features, bounds and constraints; None: the defaults of the variable set and the recipe.
        seed: of weights, shuffle and noise.
        precision: ``32-true`` or ``bf16-mixed``.
        perturbed: also train on the store's split ``perturbed``, if it has one (see `hosts.speedy.perturb`).
        max_train_samples: use only the first so many (None: all).
        buffer_blocks: blocks mixed at a time by the loader.
        log_every: steps between log lines.
        checkpoint_every: steps between checkpoints within an epoch (0: only at the end of each).
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: processes on each node that train together, each on a part of every batch, on a GPU of its own or on
            some of the cores.
        num_nodes: nodes; several need torchrun or srun.
        compile: let torch compile the network, which takes a minute and a C++ compiler.
    """

    data: str
    variables: str = "speedy"
    architecture: str = "mlp"
    size: str = "small"
    network: dict[str, Any] = field(default_factory=dict)
    recipe: str = "standard"
    recipe_settings: dict[str, Any] = field(default_factory=dict)
    emulator: EmulatorConfig | None = None
    seed: int = 0
    precision: str = "bf16-mixed"
    perturbed: bool = True
    max_train_samples: int | None = None
    buffer_blocks: int = 96
    log_every: int = 50
    checkpoint_every: int = 1000
    data2: str = ""
    from_run: str = ""
    transforms: str = "kept"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint_every < 0:
            raise UsageError(f"checkpoint_every={self.checkpoint_every} must not be negative (0: once an epoch)")
        for name in ("data", "data2", "from_run"):  # a Path is welcome, and JSON keeps text
            object.__setattr__(self, name, str(getattr(self, name)))
        if self.transforms not in TRANSFORMS:
            raise unknown_name("transforms", self.transforms, TRANSFORMS)
        if self.transforms != "kept" and not self.from_run:
            raise UsageError(f"transforms={self.transforms} is for a run that begins with another's: add from=RUN")
        self._obey_recipe()
        require_seed(self.seed)
        for name in ("max_train_samples", "buffer_blocks", "log_every", "devices", "num_nodes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        if self.precision not in PRECISIONS:
            hint = " (bf16-true would round the tendencies themselves)" if self.precision == "bf16-true" else ""
            error = unknown_name("precision", self.precision, PRECISIONS)
            raise UsageError(f"{error}{hint}")
        if self.accelerator not in ACCELERATORS:
            raise unknown_name("accelerator", self.accelerator, ACCELERATORS)

    def _obey_recipe(self) -> None:
        """Fill in the variable set and the settings of the emulator that the recipe needs; refuse others."""
        chosen = recipe(self.recipe, **self.recipe_settings)
        parts = self.devices * self.num_nodes
        if parts > 1 and chosen.config.batch_size % parts:
            raise UsageError(
                f"recipe.batch_size={chosen.config.batch_size} must be a multiple of the {parts} processes (devices x "
                "num_nodes) that share each batch"
            )
        variables = chosen.variables(variable_set(self.variables))
        object.__setattr__(self, "variables", variables.name)
        if self.emulator is None:
            object.__setattr__(self, "emulator", EmulatorConfig.from_dict({**variables.emulator, **chosen.emulator}))
        assert self.emulator is not None
        for name, value in {"confidence": False, **chosen.emulator}.items():
            if getattr(self.emulator, name) != value:
                raise UsageError(f"recipe {self.recipe} needs emulator.{name}={str(value).lower()}")


def fit(config: TrainConfig, run: Path | str) -> Emulator:
    """Train an emulator into the run folder ``run``; a cut run goes on from its last checkpoint.

    The folder holds ``config.json``, ``provenance.json``, ``checkpoints/best.ckpt`` and ``last.ckpt``, ``logs/``
    (CSV and TensorBoard), ``metrics.json`` and ``emulator/`` (the weights of the epoch with the least validation
    loss, or others that the recipe chooses; its metadata say which). ``metrics.json`` is written last: its presence
    marks a finished run.

    With several ``devices`` Lightning begins the program again for each of them, or torchrun or srun did: every one
    calls this function and gets the emulator; process 0 alone writes.

    Raises:
        SubgridError: the store or folder is unusable, the run was begun with another config, or training diverged.
        UsageError: unknown names or settings.
    """
    run = Path(run)
    processes = this_process(config.accelerator, config.devices, config.num_nodes)
    store = open_store(config.data)
    if processes.rank:
        with processes.speaking():
            try:
                return _follow(config, store, run, processes)
            except KeyboardInterrupt:
                raise SystemExit(130) from None  # process 0 tells
    with only_writer(run):
        if (run / "metrics.json").exists():
            require_same_config(config, run)
            logger.info("train: %s is finished already", run)
            return load_emulator(run)
        if (run / "config.json").exists():
            require_same_config(config, run)
        emulator, chosen = prepare(config, store)  # refuses a wrong config before anything is written
        make_folder(run)
        write_record(run / "config.json", RUN, asdict(config))
        write_json(run / "provenance.json", provenance(**_origins(config, store)))
        with log_file(run, "train"):
            return _fit(_Work(config, store, run, emulator, chosen, processes))


def _follow(config: TrainConfig, store: ColumnStore, run: Path, processes: Processes) -> Emulator:
    """Train beside process 0, which writes the run."""
    if not (run / "metrics.json").exists():
        emulator, chosen = prepare(config, store, fitted=False)
        torch.manual_seed(processes.seed(config.seed))
        _fit(_Work(config, store, run, emulator, chosen, processes))
    return load_emulator(run)


def _origins(config: TrainConfig, store: ColumnStore) -> dict[str, Any]:
    """Where the columns are from."""
    second = {"second_store": dict(open_store(config.data2).spec.provenance)} if config.data2 else {}
    return {"store": dict(store.spec.provenance), **second}


def require_same_config(config: TrainConfig, run: Path) -> None:
    """Refuse to go on with another config; a setting that the held one lacks had its default."""
    held = decisive(read_record(run / "config.json", RUN))
    wanted = decisive(json.loads(json.dumps(asdict(config))))
    changed = sorted(k for k in wanted if held.get(k) != wanted[k])
    if changed:
        raise SubgridError(f"{run} was begun with another {', '.join(changed)}; remove it or choose another run folder")


def decisive(held: dict[str, Any]) -> dict[str, Any]:
    """A run's config as JSON with all its defaults, without what does not change the result.

    A setting that it does not have yet had its default.
    """
    found = {**json.loads(json.dumps(asdict(TrainConfig(data="")))), **held}
    known = {f.name for f in fields(RecipeConfig)}
    if known >= set(found["recipe_settings"]) and found["recipe"] in recipe_names():
        found["recipe_settings"] = asdict(recipe(found["recipe"], **found["recipe_settings"]).config)
    if isinstance(found["emulator"], dict):  # None in a config that left it to its variable set
        found["emulator"] = {**asdict(EmulatorConfig()), **found["emulator"]}
    found = json.loads(json.dumps(found))  # tuples of defaults as the lists that JSON holds
    return {k: v for k, v in found.items() if k not in _PLACE}


def prepare(config: TrainConfig, store: ColumnStore, fitted: bool = True) -> tuple[Emulator, Recipe]:
    """A fresh emulator, with transforms that are fitted unless another process does it, and its recipe."""
    chosen = recipe(config.recipe, **config.recipe_settings)
    _require_splits(config, store, chosen.config.batch_size)
    torch.manual_seed(config.seed)
    emulator = build_emulator(
        config.architecture,
        _variables(config, store),
        store.grid.vertical,
        store.spec.time_step,
        config.emulator,
        config.size,
        **config.network,
    )
    chosen.require(emulator.network)
    stores = [store, *_second_store(config, store, chosen.config.batch_size)]
    if config.from_run:
        start_from(emulator, config.from_run, config.transforms)
    if fitted and (not config.from_run or config.transforms == "refitted"):
        fit_transforms(emulator, *(one[name] for one in stores for name in training_splits(config, one)))
    if fitted:
        emulator.mask_outputs()  # those of this run, beside those of the one that it begins with
        channel_weights(emulator, chosen.config.energy_weight, chosen.config.outputs)  # refuses what cannot learn
        require_closed(emulator, chosen.config, store["train"])
    return emulator, chosen


def _second_store(config: TrainConfig, store: ColumnStore, batch: int) -> list[ColumnStore]:
    """The store ``data2``, if there is one; refused unless its columns are of the same kind as those of ``store``."""
    if not config.data2:
        return []
    second = open_store(config.data2)
    pairs = {
        "vertical grid": (store.grid.vertical.to_dict(), second.grid.vertical.to_dict()),
        "time step": (store.spec.time_step, second.spec.time_step),
    }
    wrong = [name for name, (ours, theirs) in pairs.items() if ours != theirs]
    if wrong:
        raise UsageError(f"data2={config.data2} has another {' and '.join(wrong)} than {config.data}: convert it alike")
    wanted = second.variable_set(config.variables)
    ColumnLoader(second.joined(*training_splits(config, second)), wanted, batch, max_samples=config.max_train_samples)
    return [second]


def _variables(config: TrainConfig, store: ColumnStore) -> VariableSet:
    """The variable set; for the published normalisation with the fill that its statistics count in."""
    found = store.variable_set(config.variables)
    assert config.emulator is not None  # set by the config itself
    return with_fill(found, store.variables) if config.emulator.normalization == "official" else found


def _require_splits(config: TrainConfig, store: ColumnStore, batch: int) -> None:
    """Refuse now, before the work, a split that lacks or is too small."""
    wanted = store.variable_set(config.variables)
    ColumnLoader(store.joined(*training_splits(config, store)), wanted, batch, max_samples=config.max_train_samples)
    parts = config.devices * config.num_nodes
    if store["validation"].samples < parts:
        lacks = "has no validation samples" if parts == 1 else f"has fewer validation samples than {parts} processes"
        raise SubgridError(f"{store.path} {lacks}: generate more evaluation days")


def training_splits(config: TrainConfig, store: ColumnStore) -> list[str]:
    """The splits to train on: ``train``, and ``perturbed`` if the store has it and the config wants it."""
    return ["train", "perturbed"] if config.perturbed and "perturbed" in store.split_names else ["train"]


@dataclass(frozen=True)
class _Work:
    """What the parts of a run share."""

    config: TrainConfig
    store: ColumnStore
    run: Path
    emulator: Emulator
    chosen: Recipe
    processes: Processes

    @property
    def checkpoints(self) -> Path:
        """Folder."""
        return self.run / "checkpoints"


def _fit(work: _Work) -> Emulator:
    started = time.monotonic()
    config, chosen, checkpoints = work.config, work.chosen.config, work.checkpoints
    stores = [work.store, *_second_store(config, work.store, chosen.batch_size)]
    batches = TorchBatches(*(_shuffled(work, one) for one in stores))
    steps_of_epoch = -(-len(batches) // chosen.accumulate)
    task = EmulatorTask(work.emulator, work.chosen, steps_of_epoch * chosen.epochs)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not work.processes.rank:
        remove_leftovers(checkpoints)
    best = BestCheckpoint(checkpoints)
    top = [TopCheckpoints(checkpoints, k)] if (k := chosen.average_checkpoints) else []
    reporter = Reporter(len(batches) * chosen.epochs)
    periodic = PeriodicCheckpoint(checkpoints / "last.ckpt", config.checkpoint_every, chosen.accumulate)
    kept = [*top, best, periodic, reporter, RandomState(batches, work.processes)]
    trainer = _trainer(work, [SameStart(), *kept, *averaging(chosen, steps_of_epoch)])
    tell_of_batch_norms(task, work.processes, trainer.strategy.root_device.type == "cuda")
    if config.compile:
        work.emulator.network.compile()  # in place: names of weights stay as they are
    _run(trainer, task, batches, _held(work, work.processes), checkpoints / "last.ckpt")
    if not work.processes.rank:
        told = {"epochs": chosen.epochs, "steps": task.total_steps, "columns_per_epoch": batches.columns}
        _ship(work, task, best, [path for one in top for path in one.paths], reporter, told, started)
    trainer.strategy.barrier()
    return work.emulator.eval()


def _ship(
    work: _Work,
    task: EmulatorTask,
    best: BestCheckpoint,
    averaged: list[Path],
    reporter: Reporter,
    told: dict[str, Any],
    started: float,
) -> None:
    """Write the emulator with the weights that the recipe chooses, and then the metrics, which mark the run as done."""
    assert best.best_model_score is not None  # every epoch ends with a validation
    least, emulator = float(best.best_model_score), work.emulator
    weights, words = shipped_weights(work.chosen.config, work.checkpoints, averaged)
    task.load_state_dict(weights)
    loss = _shipped_loss(work, task, least, reporter)
    emulator.network._compiled_call_impl = None  # it is run as it will be read
    emulator.cpu().eval()
    emulator.metadata = {**emulator.metadata, "weights": words, **_said(work.config, emulator)}
    save_emulator(emulator, work.run / "emulator")
    metrics = {
        "best_val_loss": least,
        "val_loss": loss,
        "weights": words,
        **told,
        "seconds": round(time.monotonic() - started, 1),
        "parameters": emulator.metadata["parameters"],
        "losses": reporter.history,
    }
    write_json(work.run / "metrics.json", metrics)


def _said(config: TrainConfig, emulator: Emulator) -> dict[str, Any]:
    """What the emulator's metadata say of its training."""
    return {
        "seed": config.seed,
        "recipe": config.recipe,
        "store": config.data,
        **({"second_store": config.data2} if config.data2 else {}),
        "parameters": sum(p.numel() for p in emulator.network.parameters() if p.requires_grad),
    }


def _shuffled(work: _Work, store: ColumnStore) -> ColumnLoader:
    """This process's part of shuffled batches of the training splits of ``store``."""
    config = work.config
    return ColumnLoader(
        store.joined(*training_splits(config, store)),
        work.emulator.variables,
        work.chosen.config.batch_size,
        seed=config.seed,
        buffer_blocks=config.buffer_blocks,
        max_samples=config.max_train_samples,
        shard=work.processes.shard,
    )


def _held(work: _Work, processes: Processes) -> TorchBatches:
    """The part of the validation split of one of ``processes``, in stored order."""
    held, parts = work.store["validation"], processes.count
    rows = min(work.chosen.config.batch_size, held.samples // parts * parts)
    variables = work.emulator.variables
    return TorchBatches(ColumnLoader(held, variables, rows, seed=None, drop_last=False, shard=processes.shard))


def _trainer(work: _Work, callbacks: list[Callback]) -> pl.Trainer:
    """Lightning's trainer, which logs into the run folder."""
    config, chosen, run = work.config, work.chosen, work.run
    parts = len(list((run / "logs").glob("csv*")))  # Lightning would delete the log of the part before a cut
    several = work.processes.count > 1
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return pl.Trainer(
        max_epochs=chosen.config.epochs,
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy="ddp" if several else "auto",
        sync_batchnorm=several and on_gpu,
        use_distributed_sampler=False,  # the loaders share each batch themselves
        precision=config.precision,  # type: ignore[arg-type]
        logger=[
            CSVLogger(run / "logs", name="", version=f"csv-{parts + 1}" if parts else "csv"),
            TensorBoardLogger(run / "logs", name="", version="tensorboard"),
        ],
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        gradient_clip_val=chosen.config.gradient_clip or None,
        accumulate_grad_batches=chosen.config.accumulate,
        log_every_n_steps=config.log_every,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=run,
    )


def _run(trainer: pl.Trainer, task: EmulatorTask, train: TorchBatches, validation: TorchBatches, last: Path) -> None:
    """Train to the end, from the checkpoint ``last`` if there is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            trainer.fit(task, train, validation, ckpt_path=last if last.exists() else None, weights_only=True)
        except SystemExit as stopped:
            if isinstance(stopped.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into an exit
                raise stopped.__context__ from None
            raise


def _shipped_loss(work: _Work, task: EmulatorTask, best: float, reporter: Reporter) -> float:
    """Validation loss of the weights that ``task`` holds: that of their epoch, unless they are no epoch's."""
    config, chosen = work.config, work.chosen
    if chosen.config.swa_from or chosen.config.keep == "last":
        return reporter.history[-1]["val_loss"]
    if not chosen.config.average_checkpoints:
        return best
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = pl.Trainer(
            accelerator=config.accelerator,
            devices=1,
            precision=config.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return float(trainer.validate(task, _held(work, Processes()), verbose=False)[0]["val_loss"])
