"""Blends: weights of several runs found on the validation split, and the emulator that is their weighted sum."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.files import make_folder, only_writer, write_json
from subgrid.base.logs import log_file
from subgrid.base.progress import Progress
from subgrid.columns.store import ColumnStore, Split, open_store
from subgrid.columns.variables import offsets
from subgrid.emulator.blend import BlendedEmulator
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.files import load_emulator, save_emulator
from subgrid.evaluation.energy import air_mass
from subgrid.evaluation.hill_climbing import climb
from subgrid.evaluation.predict import emulator_predictor
from subgrid.scores.arrays import constant
from subgrid.scores.pointwise import channel_weights

logger = logging.getLogger("subgrid")
Floats = NDArray[np.float64]
OBJECTIVES = ("mse", "r2")
GROUPS = ("all", "variable")


@dataclass(frozen=True)
class BlendConfig:
    """A blend of trained runs.

    Args:
        runs: run folders of one variable set.
        data: column store.
        split: on which the weights are found.
        objective: ``mse``, of outputs in units of their spread, every channel alike; or ``r2``, the mean over
            variables of the pooled R2 of :mod:`subgrid.evaluation.offline`.
        groups: ``all``: each run has one weight; ``variable``: one for each output variable.
        negative: whether weights may be negative.
    """

    runs: tuple[str, ...]
    data: str
    split: str = "validation"
    objective: str = "mse"
    groups: str = "all"
    negative: bool = True

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise UsageError(f"a blend needs at least two runs, not {len(self.runs)}")
        for name, valid in (("objective", OBJECTIVES), ("groups", GROUPS)):
            if getattr(self, name) not in valid:
                raise unknown_name(name, getattr(self, name), valid)


@dataclass
class ErrorSums:
    """Sums over rows, by channel, in units of the training spread: the members' errors and the truth's own.

    Args:
        products: (channel, member, member), weighted sums of products of two members' errors.
        weight, first, second: (channel,), of the weights, and of the truth times them, once and squared.
    """

    products: Floats
    weight: Floats
    first: Floats
    second: Floats

    @classmethod
    def empty(cls, channels: int, members: int) -> ErrorSums:
        """Of no rows."""
        return cls(np.zeros((channels, members, members)), *(np.zeros(channels) for _ in range(3)))

    def update(self, errors: Floats, truth: Floats, weight: Floats) -> None:
        """Add rows: (member, n, channel), (n, channel), (n, channel)."""
        by_channel = errors.transpose(2, 0, 1)
        self.products += (by_channel * weight.T[:, None, :]) @ by_channel.transpose(0, 2, 1)
        self.weight += weight.sum(0)
        self.first += (weight * truth).sum(0)
        self.second += (weight * truth**2).sum(0)

    def deviation(self) -> Floats:
        """Weighted squares about the weighted mean, (channel,); 0 where a channel does not vary."""
        mean = self.first / np.where(self.weight > 0, self.weight, 1.0)
        found = np.maximum(self.second - self.first * mean, 0.0)
        return np.where(constant(found, self.weight, mean), 0.0, found)


def blend(config: BlendConfig, out: Path | str) -> dict[str, Any]:
    """Find the weights, and write ``emulator`` (a blend, which evaluates, couples and exports) and ``blend.json``.

    Returns:
        ``weights`` (by group, run to weight), ``objective`` and its value for each run, for equal weights and for the
        blend (``scores``: mse is better low, r2 high), all on ``split``.

    Raises:
        UsageError: unknown names, or runs that cannot stand in one sum.
        SubgridError: unreadable runs or store, or a run that gives NaN.
    """
    out = Path(out)
    members = [load_emulator(run) for run in config.runs]
    store = open_store(config.data)
    first, split = members[0], store[config.split]
    store.require(first.variables)
    channels = sum(v.width(first.levels) for v in first.variables.targets)
    BlendedEmulator(members, np.full((len(members), channels), 1.0 / len(members)))  # refuses what cannot be one
    if store.grid.levels != first.levels:
        raise SubgridError(f"{config.data} has {store.grid.levels} levels, the runs {first.levels}: blend on their own")
    with only_writer(out), log_file(make_folder(out), "blend"):
        (out / "blend.json").unlink(missing_ok=True)  # written last, it says "finished"
        spread = _spread(members[0], store)
        sums = _sums(config, members, split, spread)
        forms = _forms(config.objective, sums, spread, offsets(first.variables.targets, first.levels))
        weights, told = _found(config, forms)
        made = BlendedEmulator(
            members, np.concatenate([np.tile(w[:, None], forms[n].width) for n, w in weights.items()], 1)
        )
        made.metadata = {"store": config.data, "weights": told["weights"], "weights_found_on": config.split}
        save_emulator(made, out / "emulator")
        write_json(out / "blend.json", told)
        return told


def _spread(emulator: Emulator, store: ColumnStore) -> Floats:
    """Each channel's spread in the training columns; 1 where it does not vary."""
    name = "train" if "train" in store.split_names else store.split_names[0]
    found = store[name].variable_statistics(emulator.variables.targets)["std"]
    return np.where(found > 0, found, 1.0)


def _sums(config: BlendConfig, members: list[Emulator], split: Split, spread: Floats) -> ErrorSums:
    variables, grid = members[0].variables, split.store.grid.vertical
    sizes = {v.name: v.width(grid.n_levels) for v in variables.targets}
    sums = ErrorSums.empty(len(spread), len(members))
    predictors = [emulator_predictor(member) for member in members]
    with Progress("blend", split.blocks, "blocks") as bar:
        for block in range(split.blocks):
            x = split.read_variables(variables.inputs, block)
            truth = split.read_variables(variables.targets, block) / spread
            errors = np.stack([predict(x) / spread - truth for predict in predictors])
            if not np.isfinite(errors).all():
                bad = [run for run, one in zip(config.runs, errors, strict=True) if not np.isfinite(one).all()]
                raise SubgridError(
                    f"{', '.join(bad)} gives NaN or infinity on {split.folder}: leave it out of the blend"
                )
            rows = np.ones(len(x))
            if config.objective == "r2":
                rows = split.read("weight", block).astype(np.float64)
            weight = channel_weights(sizes, rows, air_mass(variables, x, grid)) if config.objective == "r2" else None
            sums.update(errors, truth, np.ones_like(truth) if weight is None else weight)
            bar.update(1)
    return sums


@dataclass(frozen=True)
class _Form:
    """What a variable adds to the objective, ``w' matrix w``, and how many channels it has."""

    matrix: Floats
    width: int


def _forms(objective: str, sums: ErrorSums, spread: Floats, places: dict[str, slice]) -> dict[str, _Form]:
    """Each variable's part; what does not vary has none."""
    deviation, found = sums.deviation(), {}
    live = deviation > 0
    for name, place in places.items():
        inside = live[place]
        products = sums.products[place][inside]
        if not inside.any():
            matrix = np.zeros(sums.products.shape[1:])
        elif objective == "mse":
            matrix = (products / sums.weight[place][inside][:, None, None]).sum(0)
        else:
            square = spread[place][inside] ** 2
            matrix = np.tensordot(square, products, 1) / (square @ deviation[place][inside])
        found[name] = _Form(matrix, place.stop - place.start)
    parts = live.sum() if objective == "mse" else sum(bool(form.matrix.any()) for form in found.values())
    return {name: _Form(form.matrix / max(1, parts), form.width) for name, form in found.items()}


def _found(config: BlendConfig, forms: dict[str, _Form]) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Weights of each variable, and what is told of them."""
    whole = np.sum([form.matrix for form in forms.values()], axis=0)
    if config.groups == "all":
        one = climb(whole, config.negative)
        weights = dict.fromkeys(forms, one)
        named = {"all": one}
    else:
        # what does not vary takes the weights of all
        common = climb(whole, config.negative)
        weights = {n: climb(f.matrix, config.negative) if f.matrix.any() else common for n, f in forms.items()}
        named = weights
    members = len(config.runs)
    equal = np.full(members, 1.0 / members)
    scores = {run: float(whole[k, k]) for k, run in enumerate(config.runs)}
    scores["equal weights"] = float(equal @ whole @ equal)
    scores["blend"] = float(sum(weights[n] @ form.matrix @ weights[n] for n, form in forms.items()))
    if config.objective == "r2":
        scores = {name: 1.0 - value for name, value in scores.items()}
    told = {n: dict(zip(config.runs, w.round(6).tolist(), strict=True)) for n, w in named.items()}
    return weights, {"objective": config.objective, "split": config.split, "weights": told, "scores": scores}


def blend_lines(told: dict[str, Any]) -> list[str]:
    """What a terminal shows."""
    title = "R2 (mean of variables)" if told["objective"] == "r2" else "mean squared error"
    lines = [f"{title} on {told['split']}"]
    lines += [f"{name:40s}{value:10.6f}" for name, value in told["scores"].items()]
    for group, weights in told["weights"].items():
        lines.append(f"{group}: " + ", ".join(f"{run} {weight:+.3f}" for run, weight in weights.items()))
    return lines
