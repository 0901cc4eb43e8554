"""What each verb's words mean: typed settings, and their translation to the rooms' own configs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from subgrid.base.errors import UsageError, unknown_name
from subgrid.cli.compose import build, combinations, compose
from subgrid.emulator.config import EmulatorConfig
from subgrid.hosts.driving import Drive


@dataclass(frozen=True)
class TrainWords:
    """``subgrid train``; ``from`` is a run whose weights it begins with, and whose settings are then the defaults."""

    data: str = "???"
    out: str = "???"
    data2: str = ""
    from_: str = ""
    transforms: str = "kept"
    architecture: str = "mlp"
    recipe: str = "standard"
    size: str = "small"
    variables: str = "speedy"
    emulator: EmulatorConfig = field(default_factory=EmulatorConfig)
    seed: int = 0
    precision: str = "bf16-mixed"
    perturbed: bool = True
    max_train_samples: int | None = None
    buffer_blocks: int = 96
    log_every: int = 50
    checkpoint_every: int = 1000
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    compile: bool = False


@dataclass(frozen=True)
class EvaluateWords:
    """``subgrid evaluate``; an empty ``data`` is the store of the training run, an empty ``out`` RUN/evaluation.

    ``variables`` and ``trust`` are for published networks, here and below: see :func:`subgrid.emulator.load`.
    """

    data: str = ""
    out: str = ""
    split: str = "test"
    metrics: str = "standard"
    emulator: str = "as_trained"
    variables: str = ""
    trust: bool = False
    members: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class CoupleWords(Drive):
    """``subgrid couple``, beside the words of :class:`Drive`.

    An empty ``data`` is the store of the training run, an empty ``out`` RUN/coupled.
    """

    data: str = ""
    out: str = ""
    start: str = ""
    days: int = 30
    perturb: float = 0.0
    member: int = 0
    replace: str = "auto"
    timings: bool = True
    emulator: str = "as_trained"
    variables: str = ""
    trust: bool = False


@dataclass(frozen=True)
class ExportWords:
    """``subgrid export`` beside its options; an empty ``data`` is the store of the training run."""

    data: str = ""
    name: str = ""
    pcols: int = 16
    online: str = ""
    licence: str = ""
    variables: str = ""
    trust: bool = False
    emulator: str = "as_trained"


def _defaults(config: type) -> dict[str, Any]:
    return {f.name: f.default for f in fields(config)}


def _chosen(group: str, words: list[str], default: str) -> str:
    """The choice of a group that ``words`` make; the last word counts, as for Hydra."""
    return next((word.removeprefix(f"{group}=") for word in reversed(words) if word.startswith(f"{group}=")), default)


def generate_settings(words: list[str]) -> tuple[str, str, dict[str, Any], Any]:
    """Words of ``subgrid data generate`` -> host name, output path, host settings, sampling settings."""
    from subgrid.hosts.base import host_names, host_settings
    from subgrid.hosts.sampling import GenerateConfig

    @dataclass(frozen=True)
    class GenerateWords(GenerateConfig):
        host: str = "speedy"
        out: str = "???"

    chosen, hosts = _chosen("host", words, "speedy"), host_names()
    # Only the chosen one is imported: another package's may be broken.
    choices = {n: _defaults(host_settings(n)) if n == chosen else {} for n in hosts}
    settings = compose(GenerateWords, words, groups={"host": choices})
    host = settings.pop("host")
    out = settings.pop("out")
    name = host.pop("name")
    build(host_settings(name), host)
    return name, str(out), host, build(GenerateConfig, settings)


def train_settings(words: list[str]) -> tuple[Any, str]:
    """Words of ``subgrid train`` -> the training config and the run folder.

    Without ``variables=`` it is the set of the run that ``from=`` names, or the one that the store was made for, with
    that set's defaults of the emulator; the store is opened once the words themselves are right.
    """
    from subgrid.columns.store import open_store
    from subgrid.emulator.files import settings_of

    chosen = _chosen("variables", words, "")
    start = _chosen("from", words, "")
    if start:
        held = settings_of(start)
        return _train_settings(words, chosen or held["variables"], held)
    config, out = _train_settings(words, chosen or TrainWords.variables, {})
    own = chosen or open_store(config.data).own_set()
    return (config, out) if own == config.variables else _train_settings(words, own, {})


@dataclass(frozen=True)
class SweepWords:
    """``subgrid sweep``, beside the words of ``subgrid train`` and ``slurm.*``."""

    out: str = "???"
    launcher: str = "local"
    workers: int = 0
    retries: int = 1
    split: str = "test"
    metrics: str = "standard"
    slurm: str = "given"


def sweep_settings(words: list[str]) -> tuple[Any, list[Any]]:
    """Words of ``subgrid sweep`` -> how it runs, and its cells: the product of all comma lists.

    A cell is named after its architecture, recipe and seed, and whatever else there are lists of. Words for SLURM
    begin with ``slurm.`` and are submitit's: ``slurm.timeout_min=60``, ``slurm.slurm_partition=gpu``.
    """
    from subgrid.evaluation.metrics import chosen
    from subgrid.workflows.sweep import Cell, SweepConfig

    own = {f.name for f in fields(SweepWords)}
    known = {*own, *(f.name for f in fields(TrainWords))}
    heads = [re.split(r"[=.]", word)[0] for word in words]
    for word, head in zip(words, heads, strict=True):
        if "=" in word and head not in known:
            raise unknown_name("option", head, known)
    mine = [word for word, head in zip(words, heads, strict=True) if head in own]
    settings = compose(SweepWords, quoted_metrics(mine), groups={"slurm": {"given": {}}}, open_groups=["slurm"])
    slurm = settings.pop("slurm")
    slurm.pop("name")
    settings = _typed(SweepWords, settings)
    chosen(settings["metrics"])
    config = SweepConfig(**settings, slurm=slurm)
    cells = []
    for cell in combinations([word for word in words if word not in mine]):
        train, _ = train_settings([*cell.words, f"out={config.out}"])
        parts = [train.architecture, train.recipe, f"s{train.seed}", *cell.names]
        cells.append(Cell("-".join(parts), train))
    return config, cells


def _train_settings(words: list[str], variables: str, held: dict[str, Any]) -> tuple[Any, str]:
    """``held`` are the settings of the run that this one begins with, if it does."""
    from subgrid.columns.variables import variable_set
    from subgrid.networks import names, resolve
    from subgrid.training.fit import TrainConfig
    from subgrid.training.recipes import recipe, recipe_names
    from subgrid.training.recipes.base import RecipeConfig

    wanted = _chosen("recipe", words, TrainWords.recipe)
    recipes = {n: asdict(recipe(n).config) if n == wanted else {} for n in recipe_names()}
    needed = recipe(wanted).emulator if wanted in recipes else {}
    settings = compose(
        TrainWords,
        words,
        defaults={"emulator": held.get("emulator") or {**variable_set(variables).emulator, **needed}},
        groups={"architecture": {n: {} for n in names()}, "recipe": recipes},
        open_groups=["architecture"],
    )
    network, chosen = settings.pop("architecture"), settings.pop("recipe")
    out, start = str(settings.pop("out")), str(settings.pop("from"))
    architecture, recipe_name = network.pop("name"), chosen.pop("name")
    if held and not _chosen("architecture", words, ""):
        architecture, network = held["architecture"], {**held["network"], **network}
    chosen = asdict(build(RecipeConfig, chosen))
    resolve(architecture, str(settings["size"]), **network)
    config = build(
        TrainConfig,
        {
            **settings,
            "variables": variables,
            "emulator": build(EmulatorConfig, settings["emulator"]),
            "from_run": start,
            "architecture": architecture,
            "network": network,
            "recipe": recipe_name,
            "recipe_settings": chosen,
        },
    )
    return config, out


def couple_settings(words: list[str]) -> dict[str, Any]:
    """Words of ``subgrid couple``; ``emulator.clip_outputs=false`` and its like become ``constraints``."""
    settings = compose(CoupleWords, words, groups={"emulator": {"as_trained": {}}}, open_groups=["emulator"])
    changes = _changes(settings)
    return {**_typed(CoupleWords, settings), "constraints": changes}


def _changes(settings: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of the emulator that words have changed out of ``settings``."""
    changes: dict[str, Any] = settings.pop("emulator")
    changes.pop("name")
    return changes


@dataclass(frozen=True)
class EnsembleWords(Drive):
    """``subgrid ensemble`` beside its runs: the words of ``subgrid couple``, and ``slurm.*``.

    An empty ``data`` is the store of the first run.
    """

    out: str = "???"
    data: str = ""
    controls: int = 5
    members: int = 1
    perturb: float = 0.01
    launcher: str = "local"
    workers: int = 0
    retries: int = 1
    address: str = ""
    start: str = ""
    days: int = 30
    replace: str = "auto"
    emulator: str = "as_trained"
    slurm: str = "given"


def ensemble_settings(words: list[str]) -> Any:
    """Words of ``subgrid ensemble``, runs and settings -> its config."""
    from subgrid.workflows.ensemble import EnsembleConfig

    runs = tuple(word for word in words if "=" not in word)
    if not runs:
        raise UsageError("ensemble: name the runs, such as subgrid ensemble RUN RUN out=ensemble days=90")
    settings = compose(
        EnsembleWords,
        [word for word in words if "=" in word],
        groups={"emulator": {"as_trained": {}}, "slurm": {"given": {}}},
        open_groups=["emulator", "slurm"],
    )
    changes, slurm = _changes(settings), settings.pop("slurm")
    slurm.pop("name")
    settings = _typed(EnsembleWords, settings)
    own = {f.name for f in fields(EnsembleConfig)}
    coupled = {name: settings.pop(name) for name in list(settings) if name not in own}
    settings["data"] = store_of(runs[0], settings["data"])
    return EnsembleConfig(**settings, runs=runs, slurm=slurm, couple={**coupled, "constraints": changes})


@dataclass(frozen=True)
class BlendWords:
    """``subgrid blend`` beside its runs; an empty ``data`` is the store of the first run."""

    out: str = "???"
    data: str = ""
    split: str = "validation"
    objective: str = "mse"
    groups: str = "all"
    negative: bool = True


def blend_settings(words: list[str]) -> tuple[Any, str]:
    """Words of ``subgrid blend``, runs and settings -> its config and the output folder."""
    from subgrid.evaluation.blend import BlendConfig

    runs = tuple(word for word in words if "=" not in word)
    settings = _typed(BlendWords, compose(BlendWords, [word for word in words if "=" in word]))
    out, data = settings.pop("out"), settings.pop("data")
    config = BlendConfig(runs, data, **settings)
    return replace(config, data=store_of(runs[0], data)), out


@dataclass(frozen=True)
class FinetuneWords:
    """``subgrid finetune`` beside its run and the words of ``subgrid train``."""

    groups: Any = "profiles"


#: What copies take from the recipe of the run itself: how a column counts, and no schedule or average.
KEPT_SETTINGS = (
    "batch_size",
    "loss",
    "mse_weight",
    "energy_weight",
    "input_noise",
    "perturbed_weight",
    "weight_decay",
    "gradient_clip",
    "learning_rate",
)
#: Share of the run's learning rate, and epochs, where the words say nothing of them.
TUNING_RATE, TUNING_EPOCHS = 0.1, 1


def finetune_settings(run: str, words: list[str]) -> tuple[Any, str]:
    """A run and words of ``subgrid finetune`` -> its config and the output folder.

    What the words do not say of variables, architecture and recipe is the run's; a copy has one epoch at a tenth of its
    rate.
    """
    from subgrid.emulator.files import settings_of
    from subgrid.workflows.finetune import FinetuneConfig

    own = {f.name for f in fields(FinetuneWords)}
    mine = [word for word in words if re.split(r"[=.]", word)[0] in own]
    groups = compose(FinetuneWords, mine)["groups"]
    others = [word for word in words if word not in mine]
    if _chosen("from", others, ""):
        raise UsageError("finetune begins with the run that is named first: from= has no place here")
    held = settings_of(run)
    kept = _kept_settings(run, _chosen("recipe", others, str(held.get("recipe", TrainWords.recipe))))
    data = [] if _chosen("data", others, "") else [f"data={store_of(run, '')}"]
    train, out = train_settings([f"from={run}", *data, *kept, *others])
    return FinetuneConfig(run, train, groups), out


def _kept_settings(run: str, name: str) -> list[str]:
    """The recipe, and those of its settings that a copy takes over from the run's, as words."""
    from subgrid.base.formats import RUN, read_record
    from subgrid.training.recipes import recipe

    settings = asdict(recipe(name).config)
    config = Path(run) / "config.json"
    if config.is_file():
        held = read_record(config, RUN)
        settings.update(held.get("recipe_settings") or {} if held.get("recipe") == name else {})
    settings["learning_rate"] = TUNING_RATE * settings["learning_rate"]
    return [f"recipe={name}", f"recipe.epochs={TUNING_EPOCHS}"] + [f"recipe.{k}={settings[k]}" for k in KEPT_SETTINGS]


def quoted_metrics(words: list[str]) -> list[str]:
    """A comma list of metrics, which Hydra's grammar keeps for sweeps, as one text."""
    return [re.sub(r"^metrics=([\w ]+(?:,[\w ]+)+)$", r"metrics='\1'", word) for word in words]


def evaluate_settings(words: list[str]) -> dict[str, Any]:
    """Words of ``subgrid evaluate``; ``emulator.energy=projection`` and its like become ``constraints``."""
    from subgrid.evaluation.metrics import chosen
    from subgrid.evaluation.offline import EvaluateConfig

    words = quoted_metrics(words)
    settings = compose(EvaluateWords, words, groups={"emulator": {"as_trained": {}}}, open_groups=["emulator"])
    changes = _changes(settings)
    settings = _typed(EvaluateWords, settings)
    chosen(settings["metrics"])
    if changes and not settings["out"]:
        raise UsageError(f"emulator.{next(iter(changes))} changes the emulator: give these scores a folder with out=")
    EvaluateConfig("", "", members=settings["members"], seed=settings["seed"])  # refuses before a run is looked for
    return {**settings, "constraints": changes}


def export_settings(run: str, target: str, words: list[str]) -> Any:
    """Words of ``subgrid export`` -> its config; ``emulator.top=15`` and its like become ``constraints``."""
    from subgrid.deployment.bundle import ExportConfig

    settings = compose(ExportWords, words, groups={"emulator": {"as_trained": {}}}, open_groups=["emulator"])
    changes = _changes(settings)
    settings = _typed(ExportWords, settings)
    settings["data"] = store_of(run, settings["data"])
    return ExportConfig(**settings, target=target, constraints=changes)


def _typed(words: type, settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` with values of the types that ``words`` declare: text must not count as the truth value true."""
    built: Any = build(words, settings)
    return {name: getattr(built, name) for name in settings}


def filled(words: list[str]) -> dict[str, float]:
    """``NAME=VALUE`` words -> values by name; :class:`UsageError` for another form."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UsageError(f"--fill {word}: write NAME=VALUE, as in cam_in_SNOWHICE=0") from error
    return found


def listed_sizes(
    what: str, size: str, variables: str, recipe: str, levels: int | None
) -> tuple[dict[str, Any], list[str]]:
    """What ``subgrid list architectures`` with options prints: the result, and its lines for a reader."""
    from subgrid.training.sizes import parameter_counts

    if what not in ("", "architectures"):
        raise UsageError(f"list {what} has no parameters to count: --size and its like are for list architectures")
    size, recipe = size or TrainWords.size, recipe or TrainWords.recipe
    found = parameter_counts(size, variables or TrainWords.variables, recipe, levels)
    told = {"size": size, "recipe": recipe, **asdict(found)}
    lines = [f"trainable parameters, {size}, {found.variables} at {found.levels} levels, recipe {recipe}:"]
    lines += [f"{name:16s}{number:14,d}" for name, number in found.parameters.items()]
    lines += [f"{name:16s}refused: {reason}" for name, reason in found.refused.items()]
    return told, lines


def results_of(run: str, given: str, name: str) -> str:
    """The folder of results: the given one, else ``name`` in the run's; beside a file, in one with the file's name."""
    path = Path(run)
    return given or str((path.with_suffix("") if path.is_file() else path) / name)


def store_of(run: str, given: str) -> str:
    """The store to use: the given one, else the one that the emulator was trained on.

    Raises:
        UsageError: neither is known.
    """
    if given:
        return given
    from subgrid.emulator.files import trained_on

    found = trained_on(run)
    if not found:
        raise UsageError(f"{run} does not say which store it was trained on: add data=STORE")
    return found
