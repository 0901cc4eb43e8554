"""The verbs: options, then ``key=value`` settings; exit code 0 done, 1 the work failed, 2 wrong usage."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from subgrid.base.errors import SubgridError, UsageError
from subgrid.cli.data import data
from subgrid.cli.printing import Json, Run, Words, say
from subgrid.cli.sweep import sweep

app = typer.Typer(
    name="subgrid",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
logger = logging.getLogger("subgrid")
#: Exit code after Ctrl-C.
INTERRUPTED = 130
#: Words that any verb takes, anywhere, and how much is then said on standard error.
LEVELS = {"--verbose": logging.DEBUG, "--quiet": logging.WARNING}


def _version(asked: bool) -> None:
    if asked:
        import subgrid

        print(f"subgrid {subgrid.__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="print the version")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="say more on standard error; before or after VERB")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="say only what went wrong; before or after VERB")] = False,
) -> None:
    """Learn the physics that a climate model cannot resolve, prove it inside a climate model, ship it to Fortran."""
    del version, verbose, quiet  # obeyed already: by _version, and by main() before a verb is known


app.add_typer(data, name="data")
app.add_typer(sweep, name="sweep")


@app.command()
def train(words: Words = None, as_json: Json = False) -> None:
    """Train an emulator on a column store.

    Example: subgrid train data=store.zarr out=run architecture=mlp recipe=standard recipe.epochs=12 seed=0
    """
    from subgrid.cli.verbs import train_settings
    from subgrid.training.fit import fit
    from subgrid.training.processes import this_process

    config, out = train_settings(words or [])
    fit(config, out)
    if this_process(config.accelerator, config.devices, config.num_nodes).rank:
        return  # process 0 tells
    metrics = json.loads((Path(out) / "metrics.json").read_text())
    say(
        metrics,
        as_json,
        [f"{out}: {metrics['parameters']} parameters, validation loss {metrics['best_val_loss']:.4g}"],
    )


@app.command()
def evaluate(run: Run, words: Words = None, as_json: Json = False) -> None:
    """Score an emulator offline, beside the training mean and a ridge regression.

    Example: subgrid evaluate run split=test
    """
    from subgrid.cli.verbs import evaluate_settings, results_of, store_of
    from subgrid.evaluation.budgets import budget_lines
    from subgrid.evaluation.members import member_lines
    from subgrid.evaluation.metrics import METRICS
    from subgrid.evaluation.offline import EvaluateConfig
    from subgrid.evaluation.offline import evaluate as evaluate_run
    from subgrid.evaluation.sureness import confidence_lines

    settings = evaluate_settings(words or [])
    out = results_of(run, settings.pop("out"), "evaluation")
    settings["data"] = store_of(run, settings["data"])
    scores = evaluate_run(EvaluateConfig(emulator=run, **settings), out)
    lines = [f"{'R2 on ' + scores['split']:32s} " + " ".join(f"{m:>8s}" for m in scores["models"])]
    for name in scores["variables"]:
        values = [scores["models"][m][name]["r2"] for m in scores["models"]]
        lines.append(f"{name:32s}" + " ".join("constant" if v is None else f"{v:8.4f}" for v in values))
    lines += budget_lines(scores["budgets"])
    for name, result in scores["metrics"].items():
        lines += METRICS[name].lines(name, result)
    if scores["members"]:
        lines += member_lines(scores["members"])
    if scores["confidence"]:
        lines += confidence_lines(scores["confidence"])
    say(scores, as_json, lines)


@app.command()
def predict(
    run: Run,
    test: Annotated[str, typer.Argument(help="the competition's test file, CSV or parquet")],
    out: Annotated[str, typer.Option(help="the submission to write, .csv or .parquet")],
    weights: Annotated[str, typer.Option(help="its sample submission, for the weights and the rows")] = "",
    grid: Annotated[str, typer.Option(help="ClimSim's grid file, for published TorchScript")] = "",
    fill: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of an input that the file does not have")] = None,
    variables: Annotated[str, typer.Option(help="what published TorchScript reads")] = "",
    trust: Annotated[bool, typer.Option(help="load the TorchScript of a folder")] = False,
    as_json: Json = False,
) -> None:
    """Write a submission to the LEAP/ClimSim competition; given a part of its training file, score it as well.

    Example: subgrid predict run test.csv --out submission.parquet --weights sample_submission.csv
    """
    from subgrid.cli.verbs import filled
    from subgrid.evaluation.metrics import plain_lines
    from subgrid.evaluation.submission import SubmissionConfig, write_submission

    config = SubmissionConfig(run, test, weights, grid, filled(fill or []), variables, trust)
    told = write_submission(config, out)
    lines = [f"{told['path']}: {told['rows']} rows, weights of {told['weights']} ({told['zero_weights']} are zero)"]
    for name, result in told.get("metrics", {}).items():
        lines += plain_lines(name, result)
    say(told, as_json, lines)


@app.command()
def score(
    submission: Annotated[str, typer.Argument(help="prediction x weight, CSV or parquet")],
    truth: Annotated[str, typer.Argument(help="a part of the training file, or a solution, of the same rows")],
    weights: Annotated[str, typer.Option(help="the sample submission that gave the weights")] = "",
    as_json: Json = False,
) -> None:
    """Score a submission to the LEAP/ClimSim competition, whoever made it, where the truth is known.

    Example: subgrid score submission.parquet train_part.parquet --weights sample_submission.csv
    """
    from subgrid.evaluation.metrics import plain_lines
    from subgrid.evaluation.solution import score_submission

    told = score_submission(submission, truth, weights)
    lines = [f"{submission}: {told['rows']} rows, {told['zero_weights']} outputs of weight 0"]
    say(told, as_json, lines + plain_lines("kaggle", told["metrics"]["kaggle"]))


@app.command()
def couple(run: Run, words: Words = None, as_json: Json = False) -> None:
    """Run an emulator inside its host, beside the matched control.

    Example: subgrid couple run days=30 start=2002-02-01 emulator.clip_outputs=false out=run/unclipped
    """
    from subgrid.cli.verbs import couple_settings, results_of, store_of
    from subgrid.coupling.run import CoupleConfig
    from subgrid.coupling.run import couple as run_coupled

    settings = couple_settings(words or [])
    out = results_of(run, settings.pop("out"), "coupled")
    settings["data"] = store_of(run, settings["data"])
    metrics = run_coupled(CoupleConfig(emulator=run, **settings), out).metrics
    state = "finite and within bounds" if metrics["finite"] else f"unstable: {metrics['unstable']}"
    lines = [f"{out}: {metrics['days']} days, {state}"]
    for name in (
        "mid_troposphere_temperature_difference_K",
        "lowest_level_humidity_ratio",
        "precipitation_ratio",
        "simulated_years_per_day",
    ):
        if name in metrics:
            lines.append(f"  {name.replace('_', ' ')}: {metrics[name]:.3f}")
    say(metrics, as_json, lines)


@app.command()
def ensemble(words: Words = None, as_json: Json = False) -> None:
    """Run emulators and the host's own physics from perturbed first states, side by side, and score both.

    Example: subgrid ensemble sweep/unet-standard-s7 sweep/pao-standard-s7 out=ensemble days=90 controls=5 workers=2
    """
    from subgrid.cli.verbs import ensemble_settings
    from subgrid.workflows.ensemble import ensemble_lines, run_ensemble

    config = ensemble_settings(words or [])
    summary = run_ensemble(config)
    say(summary, as_json, ensemble_lines(summary, config.out))


@app.command()
def export(
    run: Run,
    words: Words = None,
    target: Annotated[str, typer.Option(help="torchscript, ftorch, e3sm or cam")] = "ftorch",
    out: Annotated[str, typer.Option(help="the bundle's folder (default: RUN/export)")] = "",
    as_json: Json = False,
) -> None:
    """Write a bundle for a Fortran model: TorchScript (raw SI in and out), module, driver, vectors, card.

    Example: subgrid export run --target ftorch --out bundle
    """
    from subgrid.cli.verbs import export_settings, results_of
    from subgrid.deployment.bundle import export as export_run

    config, folder = export_settings(run, target, words or []), results_of(run, out, "export")
    report = export_run(run, folder, config)
    line = (
        f"{folder}: {report['name']} for {report['target']}, {report['n_in']} -> {report['n_out']}, largest difference "
        f"{report['max_relative_difference']:.1e} of an output's spread"
    )
    say(report, as_json, [line, f"{folder}/README.md says what comes next; check it with `subgrid verify {folder}`"])


@app.command()
def verify(
    bundle: Annotated[str, typer.Argument(help="a folder that `subgrid export` wrote")],
    fortran: Annotated[
        bool | None,
        typer.Option("--fortran/--no-fortran", help="build and run the driver (default: where that is possible)"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a bundle: checksums, contract, shapes, test vectors, rows of zeros, and the Fortran driver.

    Example: subgrid verify bundle
    """
    from subgrid.deployment.verification import verify as verify_bundle

    checks = verify_bundle(bundle, fortran)
    words = {True: "holds", None: "not looked at"}
    say({"checks": checks}, as_json, [f"{one['name']:18s} {words[one['holds']]:14s} {one['seen']}" for one in checks])


@app.command()
def blend(
    words: Annotated[list[str], typer.Argument(help="runs, then key=value settings")], as_json: Json = False
) -> None:
    """Weigh several runs of one variable set on the validation split; the result is an emulator.

    Example: subgrid blend sweep/mlp-standard-s7 sweep/unet-standard-s7 out=blend
    """
    from subgrid.cli.verbs import blend_settings
    from subgrid.evaluation.blend import blend as blend_runs
    from subgrid.evaluation.blend import blend_lines

    config, out = blend_settings(words)
    told = blend_runs(config, out)
    say({"out": out, **told}, as_json, [*blend_lines(told), f"{out}: an emulator, to evaluate, couple or export"])


Repository = Annotated[str, typer.Argument(help="OWNER/NAME of a model repository, or a folder such as ./NAME")]
Endpoint = Annotated[str, typer.Option(help="another hub (default: HF_ENDPOINT, else the public one)")]


@app.command()
def push(
    run: Annotated[str, typer.Argument(help="a finished run, or a blend")],
    repository: Repository,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="push the checkpoints too")] = False,
    create: Annotated[bool, typer.Option("--create", help="make the repository, private, if there is none")] = False,
    endpoint: Endpoint = "",
    as_json: Json = False,
) -> None:
    """Push a run or blend to the Hugging Face Hub (with the token in HF_TOKEN), or to a folder.

    Example: subgrid push run owner/name --create
    """
    from subgrid.deployment.sharing import ShareConfig
    from subgrid.deployment.sharing import push as push_run

    config = ShareConfig(repository, checkpoints=checkpoints, create=create, endpoint=endpoint)
    told = push_run(run, config)
    say(told, as_json, [f"{told['to']}: {told['files']} files, {told['bytes']} bytes"])


@app.command()
def pull(
    repository: Repository,
    out: Annotated[str, typer.Argument(help="new folder")],
    revision: Annotated[str, typer.Option(help="branch, tag or commit")] = "main",
    endpoint: Endpoint = "",
    as_json: Json = False,
) -> None:
    """Fetch a pushed run or blend, checked, into a new folder.

    Example: subgrid pull owner/name run
    """
    from subgrid.deployment.sharing import ShareConfig
    from subgrid.deployment.sharing import pull as pull_run

    told = pull_run(ShareConfig(repository, revision=revision, endpoint=endpoint), out)
    say(told, as_json, [f"{told['out']}: {told['files']} files, {told['bytes']} bytes, as they were pushed"])


@app.command()
def finetune(run: Run, words: Words = None, as_json: Json = False) -> None:
    """Fine-tune a copy of a run for each group of outputs; the result is an emulator that takes each from its own.

    Example: subgrid finetune run out=tuned groups=profiles recipe.epochs=1
    """
    from subgrid.cli.verbs import finetune_settings
    from subgrid.workflows.finetune import finetune as finetune_run
    from subgrid.workflows.finetune import finetune_lines

    config, out = finetune_settings(run, words or [])
    told = finetune_run(config, out)
    say({"out": out, **told}, as_json, [*finetune_lines(told), f"{out}: an emulator, to evaluate, couple or export"])


@app.command()
def movie(
    run: Annotated[str, typer.Argument(help="a coupled run, or a run folder with one")],
    field: Annotated[str, typer.Argument(help="a field of the daily means, such as precipitation")],
    out: Annotated[str, typer.Option(help="the file to write")] = "movie.gif",
    level: Annotated[int | None, typer.Option(help="of a field with levels, 0 at the top")] = None,
    every: Annotated[int, typer.Option(help="days from frame to frame")] = 1,
) -> None:
    """Show a field of a coupled run beside its control, day by day, as a GIF.

    Example: subgrid movie run precipitation --out rain.gif
    """
    from subgrid.report.movie import write_movie

    print(write_movie(run, field, Path(out), level, every))


@app.command()
def leaderboard(
    places: Annotated[list[str], typer.Argument(help="runs, coupled runs, files of online scores or folders of them")],
    out: Annotated[str, typer.Option(help="where to write the page")] = "leaderboard.html",
    title: Annotated[str, typer.Option(help="of the page")] = "Coupled runs",
) -> None:
    """Compare coupled runs on one page: a table to sort and filter, linked to each run's page, and figures.

    Example: subgrid leaderboard sweep/unet-standard-s7 sweep/pao-standard-s7 --out leaderboard.html
    """
    from subgrid.report.leaderboard import write_leaderboard

    print(write_leaderboard(places, Path(out), title))


@app.command()
def report(
    folder: Annotated[str, typer.Argument(help="a demo folder or a folder with results")],
    out: Annotated[str | None, typer.Option(help="where to write the page")] = None,
    seeds: Annotated[
        list[str] | None,
        typer.Option(help="folder of the same network from another seed, for bands (repeat for each)"),
    ] = None,
) -> None:
    """Turn results into one self-contained HTML page.

    Example: subgrid report demo
    """
    from subgrid.report import write_report

    print(write_report(Path(folder), Path(out) if out else None, [Path(seed) for seed in seeds or []]))


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="folder of all results")] = "demo",
    tiny: Annotated[bool, typer.Option(help="days instead of years: shows the way, not the skill")] = False,
    as_json: Json = False,
) -> None:
    """The main job end to end: generate, train, evaluate, couple, export, report; finished stages are reused.

    Example: subgrid demo --out demo
    """
    from subgrid.workflows.demo import run_demo, summary_lines

    summary = run_demo(Path(out), tiny=tiny)
    say(summary, as_json, summary_lines(summary, Path(out)))


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="matrix, matrix-online, design, physics, population or stability")],
    out: Annotated[str, typer.Option(help="folder of all results")],
    data_store: Annotated[str | None, typer.Option("--data", help="column store with two years")] = None,
    docs: Annotated[str | None, typer.Option(help="folder to write the study's page and figures to")] = None,
) -> None:
    """Run a study of several runs; resumable.

    Example: subgrid study stability --data demo/store.zarr --out studies/stability --docs docs
    """
    from subgrid.workflows.studies import run_study

    print(run_study(name, Path(data_store) if data_store else None, Path(out), Path(docs) if docs else None))


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="architectures, recipes, variables or hosts")] = "",
    size: Annotated[str, typer.Option(help="count parameters at this size: small or paper")] = "",
    variables: Annotated[str, typer.Option(help="count parameters with this variable set")] = "",
    recipe: Annotated[str, typer.Option(help="count parameters with this recipe")] = "",
    levels: Annotated[int | None, typer.Option(help="of the columns (default: 8 of SPEEDY, 60 of ClimSim)")] = None,
    as_json: Json = False,
) -> None:
    """List architectures, recipes, variable sets and hosts; with options, the parameters of each architecture.

    Example: subgrid list architectures --size paper --variables v2_rh_mc --recipe confidence
    """
    from subgrid.cli.verbs import listed_sizes

    if size or variables or recipe or levels is not None:
        told, lines = listed_sizes(what, size, variables, recipe, levels)
        say(told, as_json, lines)
        return
    from subgrid.base.errors import unknown_name
    from subgrid.columns.variables import variable_set_names

    def architectures() -> list[str]:
        from subgrid.networks import names

        return names()

    def recipes() -> list[str]:
        from subgrid.training.recipes import recipe_names

        return recipe_names()

    def hosts() -> list[str]:
        from subgrid.hosts.base import host_names

        return host_names()

    kinds = {
        "architectures": architectures,
        "recipes": recipes,
        "variables": variable_set_names,
        "hosts": hosts,
    }
    if what and what not in kinds:
        raise unknown_name("list", what, kinds)
    found = {kind: names() for kind, names in kinds.items() if what in ("", kind)}
    say(found, as_json, [f"{kind}: {', '.join(names)}" for kind, names in found.items()])


def main() -> None:
    """Entry point: one clear line for every failure that a user can meet."""
    from subgrid.base.logs import set_up
    from subgrid.base.memory import keep_freed_memory

    keep_freed_memory()
    words, level = _without_levels(sys.argv[1:])
    set_up(level)
    logger.debug("subgrid %s", " ".join(words))
    try:
        code = app(words, prog_name="subgrid", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt  # which Typer turned into its code
    except SubgridError as error:
        logger.debug("where it failed:", exc_info=True)
        print(f"subgrid: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("subgrid: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            print(f"subgrid: {_with_nearest(error)}", file=sys.stderr)
            sys.exit(UsageError.exit_code)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _without_levels(words: list[str]) -> tuple[list[str], int]:
    """The words without those of :data:`LEVELS`, which may stand anywhere, and the level that the last of them asks."""
    asked = [word for word in words if word in LEVELS]
    level = LEVELS[asked[-1]] if asked else logging.INFO
    return [word for word in words if word not in LEVELS], level


def _with_nearest(error: Any) -> str:
    """Click's message for an unknown verb or option, with the nearest valid ones."""
    return str(error.format_message()).replace("\n", " ")


if __name__ == "__main__":
    main()
