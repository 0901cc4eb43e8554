"""The normalisation that ClimSim publishes: netCDF files of means, ranges and scales, text files of cloud rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns.variables import Variable, VariableSet

#: Folders of the published archive in which the files lie, below the one that is named.
PLACES = (".", "inputs", "outputs", "multirepresentation", "inputs/multirepresentation")
#: Cloud inputs, and the beginning of the name of the text file with their rates.
CLOUDS = {"state_q0002": "qc", "state_q0003": "qi", "state_qn": "qn"}
#: What ClimSim writes for snow depth over sea ice where there is none.
FILL = 1e30
FILLED, MASK = "cam_in_SNOWHICE", "snowhice_mask"


@dataclass(frozen=True)
class NormalisationFiles:
    """Names of published files; ``*`` stands for mean, max and min in ``inputs``, for qc, qi or qn in ``rates``."""

    inputs: str
    outputs: str
    rates: str = "*_exp_lambda_large.txt"


PLAIN = NormalisationFiles("input_*.nc", "output_scale.nc")
V4 = NormalisationFiles("input_*_v4_pervar.nc", "output_scale_std_lowerthred_v5.nc")
V5 = NormalisationFiles("input_*_v5_pervar.nc", "output_scale_std_lowerthred_v5.nc")
V7 = NormalisationFiles("input_*_v7_pervar.nc", "output_scale_std_lowerthred_v7.nc")


@dataclass(frozen=True)
class PublishedNormalisation:
    """What the files say of one variable set; (level,) for profiles, () for scalars, float64.

    Args:
        mean, span: of each input, ``x_n = (x - mean) / span``; may hold zeros and NaN.
        scale: of each target, ``y_n = y scale``.
        rate: of each cloud input that passes through ``1 - exp(-rate q)`` first, (level,).
        files: what was read.
    """

    mean: Mapping[str, NDArray[np.float64]]
    span: Mapping[str, NDArray[np.float64]]
    scale: Mapping[str, NDArray[np.float64]]
    rate: Mapping[str, NDArray[np.float64]]
    files: tuple[str, ...]


#: Files of the three representations: per level and per variable subtracted and divided by, and the logarithm's offset.
REPRESENTATIONS = ("per_lev_sub.nc", "per_lev_div.nc", "per_col_sub.nc", "per_col_div.nc", "per_lev_min_norm.nc")


@dataclass(frozen=True)
class PublishedRepresentations:
    """What the files of the three representations say; (level,) for profiles, () for scalars, float64.

    Args:
        mean, span: of each input, ``x1 = (x - mean) / span``; may hold zeros and NaN.
        pooled_mean, pooled_span: of each profile with more than one representation, alike on all its levels.
        offset: of the logarithm of the same, as published.
        scale: of each target, ``y_n = y scale``.
        files: what was read.
    """

    mean: Mapping[str, NDArray[np.float64]]
    span: Mapping[str, NDArray[np.float64]]
    pooled_mean: Mapping[str, NDArray[np.float64]]
    pooled_span: Mapping[str, NDArray[np.float64]]
    offset: Mapping[str, NDArray[np.float64]]
    scale: Mapping[str, NDArray[np.float64]]
    files: tuple[str, ...]


def published_files(variables: VariableSet) -> tuple[NormalisationFiles, ...]:
    """The files that belong to a variable set, the first choice first.

    Sets with ``state_qn`` or ``liq_partition`` (v2_rh_mc, v5, v6) have the files called v5, or those called v7, which
    hold the same values; other sets with relative humidity or with tendencies of steps before (v2_rh, v3, v4) have
    those called v4 with the outputs called v5; all others (v1, v2) the ones without a suffix.
    """
    names = {v.name for v in variables.inputs}
    if names & {"state_qn", "liq_partition"}:
        return V5, V7
    if "state_rh" in names or any(n.endswith(("_dyn", "_prvphy")) for n in names):
        return (V4,)
    return (PLAIN,)


def read_normalisation(
    folder: Path | str, variables: VariableSet, levels: int, inputs: str = "", outputs: str = "", rates: str = ""
) -> PublishedNormalisation:
    """Read the published normalisation of ``variables``.

    Args:
        folder: holds the files, itself or in ``inputs`` and ``outputs``.
        variables: an input or target that is a sum keeps its own name in the files.
        levels: of the columns.
        inputs, outputs, rates: names to use in place of those of :func:`published_files`, with ``*`` where
            :class:`NormalisationFiles` has it.

    Cloud inputs whose published statistics are mean 0 and range 1 (the ``pervar`` files) have rates; where the files
    hold their own range, they are normalised like any other variable.

    Raises:
        UsageError: no ``folder``, or it is none.
        SubgridError: a file is absent or unreadable, lacks a variable, or has another number of levels.
    """
    folder = _folder(folder)
    named = _named(folder, published_files(variables), inputs, outputs, rates)
    paths = [_find(folder, named.inputs.replace("*", part)) for part in ("mean", "max", "min")]
    mean, high, low = (_read_netcdf(path, variables.inputs, levels) for path in paths)
    scale_file = _find(folder, named.outputs)
    scale = _read_netcdf(scale_file, variables.targets, levels)
    span = {name: high[name] - low[name] for name in mean}
    rate_files = {
        name: _find(folder, named.rates.replace("*", CLOUDS[name]))
        for name in mean
        if name in CLOUDS and np.all(mean[name] == 0.0) and np.all(span[name] == 1.0)
    }
    rate = {name: _read_rates(path, levels) for name, path in rate_files.items()}
    read = [*paths, scale_file, *rate_files.values()]
    return PublishedNormalisation(mean, span, scale, rate, tuple(path.name for path in read))


def read_representations(
    folder: Path | str, variables: VariableSet, levels: int, repeated: Sequence[str], outputs: str = ""
) -> PublishedRepresentations:
    """Read what ClimSim's Kaggle edition published for its three representations of each input profile.

    Args:
        folder: holds the files, itself or in ``inputs/multirepresentation`` and ``outputs``.
        variables: the variable set.
        levels: of the columns.
        repeated: names of the profiles with more than one representation.
        outputs: name to use in place of the file of scales of :func:`published_files`.

    Raises:
        UsageError: no ``folder``, or it is none.
        SubgridError: a file is absent or unreadable, lacks a variable, or has another number of levels.
    """
    folder = _folder(folder)
    choices = published_files(variables)
    scales = outputs or next((c.outputs for c in choices if _place(folder, c.outputs)), choices[0].outputs)
    paths = [_find(folder, name) for name in (*REPRESENTATIONS, scales)]
    chosen = tuple(v for v in variables.inputs if v.name in repeated)
    read = [variables.inputs, variables.inputs, chosen, chosen, chosen, variables.targets]
    mean, span, pooled_mean, pooled_span, offset, scale = (
        _read_netcdf(path, held, levels) for path, held in zip(paths, read, strict=True)
    )
    files = tuple(path.name for path in paths)
    return PublishedRepresentations(mean, span, pooled_mean, pooled_span, offset, scale, files)


def _folder(folder: Path | str) -> Path:
    if not str(folder) or not Path(folder).is_dir():
        raise UsageError(
            f"emulator.normalization=official reads ClimSim's published files: '{folder}' is not a folder; name "
            "theirs with emulator.normalization_folder=DIR"
        )
    return Path(folder)


def with_fill(variables: VariableSet, held: Iterable[str]) -> VariableSet:
    """``variables`` with ClimSim's fill of 1e30 m put back into ``cam_in_SNOWHICE``, where ``held`` has its mask.

    A store keeps 0 in its place and 1 in ``snowhice_mask``. The published statistics count the fill in (mean 8.87e29 m,
    range 1e30 m), so that the normalised variable is nearly that mask; published networks expect it.
    """
    if MASK not in set(held):
        return variables
    kept = ((FILLED, 1.0), (MASK, FILL))
    inputs = tuple(replace(v, sum_of=kept) if v.name == FILLED else v for v in variables.inputs)
    return replace(variables, inputs=inputs)


def _named(
    folder: Path, choices: tuple[NormalisationFiles, ...], inputs: str, outputs: str, rates: str
) -> NormalisationFiles:
    """The first of ``choices`` whose means lie in ``folder`` (else the first), with the names that were given."""
    found = next((c for c in choices if _place(folder, c.inputs.replace("*", "mean"))), choices[0])
    return NormalisationFiles(inputs or found.inputs, outputs or found.outputs, rates or found.rates)


def _place(folder: Path, name: str) -> Path | None:
    # one of the published names has a dot for an underscore: input_max_v7.pervar.nc
    spellings = (name, name.replace("_pervar", ".pervar"))
    tried = (folder / place / spelling for spelling in spellings for place in PLACES)
    return next((path for path in tried if path.is_file()), None)


def _find(folder: Path, name: str) -> Path:
    found = _place(folder, name)
    if found is None:
        raise SubgridError(
            f"{folder} has no {name}, nor have its folders inputs and outputs: name another folder with "
            "emulator.normalization_folder=, or files with emulator.normalization_inputs=, _outputs= and _rates="
        )
    return found


def _read_netcdf(path: Path, variables: Iterable[Variable], levels: int) -> dict[str, NDArray[np.float64]]:
    """``variables`` of one file by name, what is missing in them as NaN."""
    import netCDF4

    variables = tuple(variables)
    try:
        with netCDF4.Dataset(path) as file:
            absent = [v.name for v in variables if v.name not in file.variables]
            if absent:
                raise SubgridError(
                    f"{path} lacks {', '.join(absent)}: it is of another variable set; name another file"
                )
            held = {v.name: np.ma.filled(file[v.name][...].astype(np.float64), np.nan) for v in variables}
    except (OSError, RuntimeError, ValueError) as error:
        raise SubgridError(f"{path} cannot be read as netCDF ({error})") from error
    return {v.name: _shaped(path, v, held[v.name], levels) for v in variables}


def _shaped(path: Path, variable: Variable, values: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    wanted = levels if variable.kind == "profile" else 1
    if values.size != wanted:
        raise SubgridError(f"{path}: '{variable.name}' has {values.size} values, {wanted} are needed")
    return values.reshape(levels) if variable.kind == "profile" else values.reshape(())


def _read_rates(path: Path, levels: int) -> NDArray[np.float64]:
    try:
        rates = np.array([float(word) for word in path.read_text().replace(",", " ").split()])
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise SubgridError(f"{path} does not hold numbers set apart by commas ({error})") from error
    if len(rates) != levels or not np.all(np.isfinite(rates)) or not np.all(rates > 0):
        raise SubgridError(f"{path} has {len(rates)} numbers, {levels} positive ones are needed")
    return rates
