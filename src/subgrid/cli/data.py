"""The verbs of ``subgrid data``: columns made by a host, read from published files, looked at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from subgrid.base.errors import SubgridError
from subgrid.cli.printing import Json, Words, say, verbs

data = verbs("Columns: make them, read them from published files, look at them.")
convert = verbs("Published data to a column store.")
sample = verbs("Small synthetic files in the form of published data.")
download = verbs("Published data from where it is published; needs the network.")
data.add_typer(download, name="download")
data.add_typer(convert, name="convert")
data.add_typer(sample, name="sample")

Source = Annotated[str, typer.Argument(help="folder of the files")]
Out = Annotated[str, typer.Argument(help="what to make")]
Grid = Annotated[str, typer.Option(help="the grid file; otherwise the one beside or above the files")]


@data.command("generate")
def data_generate(words: Words = None, as_json: Json = False) -> None:
    """Make columns with the embedded climate model.

    Example: subgrid data generate host=speedy out=store.zarr train_days=365 host.truncation=21
    """
    from subgrid.cli.verbs import generate_settings
    from subgrid.hosts.base import host

    name, out, host_settings, sampling = generate_settings(words or [])
    say_store(host(name, **host_settings).generate(Path(out), sampling).info(), as_json)


@data.command("info")
def data_info(store: Annotated[str, typer.Argument(help="a column store")], as_json: Json = False) -> None:
    """Say what a column store holds.

    Example: subgrid data info store.zarr --json
    """
    from subgrid.columns.store import open_store

    info = open_store(store).info()
    lines = [
        f"{info['path']}: host {info['host']}, {info['columns']} columns x {info['levels']} levels, step "
        f"{info['time_step_s']:g} s, {info['bytes'] / 1e9:.2f} GB, format {info['format_version']}"
    ]
    for name, split in info["splits"].items():
        lines.append(f"  {name}: {split['samples']} samples, {split['first']} to {split['last']}")
    for name, variables in info["arrays"].items():
        lines.append(f"  {name}: {', '.join(variables)}")
    say(info, as_json, lines)


@data.command("copy")
def data_copy(
    source: Annotated[str, typer.Argument(help="a column store: a folder or a URL")],
    target: Annotated[str, typer.Argument(help="where the copy goes: a folder or a URL")],
    workers: Annotated[int, typer.Option(help="files copied at a time, each held in memory")] = 4,
    verify: Annotated[bool, typer.Option("--verify", help="read every file back and compare CRC-32 sums")] = False,
    as_json: Json = False,
) -> None:
    """Copy a column store between folders and object storage (s3://, gs://, ...); a cut copy goes on.

    Example: subgrid data copy store.zarr s3://bucket/store.zarr --verify
    """
    from subgrid.columns.copying import copy_store

    done = copy_store(source, target, workers, verify)
    now = f"{done['copied_files']} of {done['files']} files copied now, {done['bytes'] / 1e9:.3g} GB in all"
    say(done, as_json, [f"{done['target']}: {now}{', verified' if verify else ''}"])


def say_store(info: dict[str, Any], as_json: bool, more: list[str] | None = None) -> None:
    """Print what a new store holds, and ``more`` lines below."""
    held = ", ".join(f"{name} {split['samples']}" for name, split in info["splits"].items())
    say(info, as_json, [f"{info['path']}: {held} samples", *(more or [])])


@download.command("climsim")
def download_climsim(
    config: Annotated[str, typer.Option(help="low-res, low-res-aqua-planet, high-res or low-res-expanded")],
    out: Annotated[str, typer.Option(help="folder of the files")],
    months: Annotated[str, typer.Option(help="as 0001-02:0001-04,0008-02; otherwise those of --split, or all")] = "",
    split: Annotated[str, typer.Option(help="only the steps of published splits: train, val, scoring, test ...")] = "",
    stride: Annotated[int, typer.Option(help="every so many steps of 1,200 s, counted from 0001-02-01")] = 1,
    history: Annotated[int, typer.Option(help="also so many steps before each; v3 to v6 need 2")] = 0,
    kinds: Annotated[str, typer.Option(help="mli (mlexpand), mlo or both")] = "",
    workers: Annotated[int, typer.Option(help="files fetched at a time")] = 4,
    endpoint: Annotated[str, typer.Option(help="of the hub, otherwise HF_ENDPOINT or the public one")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say how many files and bytes, fetch nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before more than 50 GB")] = False,
    as_json: Json = False,
) -> None:
    """Download ClimSim's files and its grid file; the same command goes on after a cut. Needs the network.

    Example: subgrid data download climsim --config low-res --months 0001-02:0001-04 --stride 7 --out ClimSim_low-res
    """
    from subgrid.columns.climsim.download import DownloadConfig, plan_download, size_words
    from subgrid.columns.climsim.download import download as fetch

    plan = plan_download(DownloadConfig(config, months, split, stride, history, kinds, endpoint), out, workers)
    summary = plan.summary()
    asked = f"{summary['files']} files, {size_words(plan.total_bytes)}"
    to_do = f"{summary['missing_files']} files, {size_words(plan.missing_bytes)}"
    if dry_run:
        by_month = [f"  {m}: {n['files']} files, {size_words(n['bytes'])}" for m, n in summary["months"].items()]
        say(summary, as_json, [f"{out}: {asked}; to be fetched: {to_do}", *by_month])
        return
    agree_to(plan.missing_bytes, to_do, yes)
    done = fetch(plan, workers)
    fetched = f"fetched {done['fetched_files']} of them, {size_words(done['fetched_bytes'])}"
    without = [f"  {len(done['unpaired'])} files without their other half are left out"] if done["unpaired"] else []
    say(done, as_json, [f"{out}: {asked}; {fetched}", *without])


def agree_to(size: int, what: str, yes: bool) -> None:
    """Ask the person at the terminal about a large download.

    Raises:
        SubgridError: they say no, or nobody is there to ask.
    """
    from subgrid.columns.climsim.download import ASK_ABOVE

    if yes or size <= ASK_ABOVE:
        return
    if not sys.stdin.isatty():
        raise SubgridError(f"{what} are to be fetched, more than 50 GB, and there is no terminal to ask: add --yes")
    if not typer.confirm(f"{what} are to be fetched. Go on?", err=True):
        raise SubgridError("nothing was fetched; choose fewer --months or a larger --stride")


def say_converted(info: dict[str, Any], as_json: bool) -> None:
    """:func:`say_store`, and what was found while the rows were read."""
    found = info["provenance"]["found"]
    below = found["below_float32"]
    lines = [f"  {name.replace('_', ' ')}: {found[name]}" for name in found if name not in ("rows", "below_float32")]
    if below:
        lines.append(
            f"  below float32's normal numbers: {', '.join(f'{name} {count}' for name, count in below.items())}"
        )
    say_store(info, as_json, lines)


@convert.command("climsim")
def convert_climsim(
    source: Source,
    out: Out,
    variables: Annotated[str, typer.Option(help="v1, v2, v2_rh, v2_rh_mc, v3, v4, v5 or v6")],
    split: Annotated[
        str, typer.Option(help="train, val, scoring, test, test_stride7, several with commas, all")
    ] = "all",
    grid: Grid = "",
    on_error: Annotated[str, typer.Option(help="stop at a damaged file, or skip its steps and list them")] = "stop",
    workers: Annotated[int, typer.Option(help="processes on this machine")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="address of a dask scheduler to use instead")] = None,
    as_json: Json = False,
) -> None:
    """Turn ClimSim's NetCDF files (mli and mlo) into a column store.

    Example: subgrid data convert climsim ClimSim_low-res store.zarr --variables v2_rh_mc --workers 4
    """
    from subgrid.columns.climsim.convert import ConvertConfig
    from subgrid.columns.climsim.convert import convert as convert_files

    config = ConvertConfig(source, variables, split, grid, on_error)
    say_store(convert_files(config, out, workers, scheduler).info(), as_json)


@convert.command("kaggle")
def convert_kaggle(
    files: Annotated[list[str], typer.Argument(help="train.csv, parquet files, or a folder of them")],
    out: Out,
    grid: Annotated[str, typer.Option(help="ClimSim's low-resolution grid file")] = "",
    variables: Annotated[str, typer.Option(help="kaggle, kaggle_rh or kaggle_rh_mc")] = "kaggle",
    validation_share: Annotated[float, typer.Option(help="share of the time, before that of the test")] = 0.1,
    test_share: Annotated[float, typer.Option(help="share of the time, at its end")] = 0.1,
    as_json: Json = False,
) -> None:
    """Turn the training file of the LEAP/ClimSim competition (CSV or parquet) into a column store.

    Example: subgrid data convert kaggle train.csv store.zarr --grid ClimSim_low-res_grid-info.nc
    """
    from subgrid.columns.kaggle.convert import KaggleConfig
    from subgrid.columns.kaggle.convert import convert as convert_files

    config = KaggleConfig(tuple(files), grid, variables, validation_share, test_share)
    say_converted(convert_files(config, out).info(), as_json)


@convert.command("npy")
def convert_npy(
    source: Source,
    out: Out,
    grid: Annotated[str, typer.Option(help="ClimSim's grid file")] = "",
    normalization: Annotated[str, typer.Option(help="folder of input_mean.nc ... output_scale.nc")] = "",
    as_json: Json = False,
) -> None:
    """Turn ClimSim's npy files (normalised v1) into a column store of physical values.

    Example: subgrid data convert npy npy store.zarr --grid ClimSim_low-res_grid-info.nc --normalization normalizations
    """
    from subgrid.columns.climsim.npy import NpyConfig
    from subgrid.columns.climsim.npy import convert as convert_files

    say_converted(convert_files(NpyConfig(source, grid, normalization), out).info(), as_json)


@sample.command("climsim")
def sample_climsim(
    out: Out,
    days: Annotated[int, typer.Option(help="days at the start of each published period")] = 1,
    columns: Annotated[int, typer.Option(help="columns of the grid")] = 384,
    levels: Annotated[int, typer.Option(help="levels of the grid")] = 60,
    stride: Annotated[int, typer.Option(help="write every so many steps of 1,200 s")] = 1,
    file_format: Annotated[str, typer.Option("--format", help="cdf5 (as published) or netcdf4")] = "cdf5",
    seed: Annotated[int, typer.Option(help="of the waves and the noise")] = 0,
    as_json: Json = False,
) -> None:
    """Write small synthetic files with the names, dimensions and variables of ClimSim, and a grid file.

    Example: subgrid data sample climsim sample --days 1 --columns 96
    """
    from subgrid.columns.climsim.sample import SampleConfig, write_sample

    made = write_sample(out, SampleConfig(days, columns, levels, stride, file_format, seed))
    size = f"{made['files']} files, {made['bytes'] / 1e6:.1f} MB"
    say(made, as_json, [f"{made['folder']}: {size}; synthetic, {made['columns']} columns x {made['levels']} levels"])
