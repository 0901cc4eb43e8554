"""A tiny column store, an emulator on it and a training run, made once a session; and what makes more of them."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import pytest

BOUNDARIES = (0.0, 0.05, 0.14, 0.26, 0.42, 0.6, 0.77, 0.9, 1.0)
BLOCK = 256
SAMPLES = {"train": 3000, "validation": 500, "test": 520}
TIME_STEP = 2400.0
START = 946_684_800  # 2000-01-01, s since 1970


def _column_grid():
    from subgrid.columns import ColumnGrid
    from subgrid.physics.vertical import VerticalGrid

    latitude = np.tile([-60.0, -20.0, 20.0, 60.0], 4)
    longitude = np.repeat([0.0, 90.0, 180.0, 270.0], 4)
    area = np.cos(np.deg2rad(latitude))
    area *= 4.0 * np.pi / area.sum()
    return ColumnGrid(latitude, longitude, area, VerticalGrid.sigma(BOUNDARIES), shape=(4, 4))


def _arrays():
    """Variables of each array, as the host's generator stores them."""
    from subgrid.columns import variable_set

    base, expanded = variable_set("speedy"), variable_set("speedy_expanded")
    known = {v.name for v in base.inputs}
    history = tuple(v for v in expanded.inputs if v.name not in known)
    return {"inputs": base.inputs, "history": history, "targets": base.targets}


def _state(rng, latitude):
    """Plausible raw columns by variable name: (n, level) profiles and (n,) scalars."""
    from subgrid.physics.moisture import saturation_specific_humidity

    n, grid = len(latitude), _column_grid().vertical
    sigma = np.asarray(grid.sigma_levels)
    ps = 1.0e5 + 1500.0 * rng.standard_normal(n)
    surface = 298.0 - 35.0 * np.sin(np.deg2rad(latitude)) ** 2 + 2.0 * rng.standard_normal(n)
    t = np.clip(surface[:, None] - 58.0 * (1.0 - sigma) ** 1.2 + rng.standard_normal((n, 8)), 201.0, 302.0)
    q = rng.uniform(0.05, 0.97, (n, 8)) * saturation_specific_humidity(t, grid.mid_pressure(ps), "murray")
    return {
        "temperature": t,
        "specific_humidity": q,
        "u_wind": 10.0 * (1.0 - sigma) + 5.0 * rng.standard_normal((n, 8)),
        "v_wind": 3.0 * rng.standard_normal((n, 8)),
        "surface_pressure": ps,
        "insolation": rng.uniform(0.0, 450.0, n),
        "ozone_upper": rng.uniform(0.0, 5.0, n),
        "ozone_lower": rng.uniform(0.0, 9.0, n),
        "zenith_factor": rng.uniform(1.0, 2.0, n),
        "albedo": rng.uniform(0.05, 0.7, n),
        "land_fraction": rng.uniform(0.0, 1.0, n),
        "surface_geopotential": rng.uniform(0.0, 9000.0, n),
        "sea_surface_temperature": surface + 1.0,
        "land_surface_temperature": surface + rng.standard_normal(n),
        "sea_ice_fraction": rng.uniform(0.0, 0.3, n),
        "soil_moisture": rng.uniform(0.0, 1.0, n),
        "snow_cover": np.zeros(n),
    }


def _response(state):
    """Smooth targets; as in SPEEDY the humidity of level 0 and the winds above the lowest level stay untouched."""
    t, q, u, v = (state[k] for k in ("temperature", "specific_humidity", "u_wind", "v_wind"))
    sun, lowest = state["insolation"], q[:, -1]
    drag = np.zeros_like(u)
    drag[:, -1] = 1e-5
    moistening = 2e-7 * np.tanh(100.0 * (lowest[:, None] - q))
    moistening[:, 0] = 0.0
    moistening[:, -1] = 1e-8 * (5.0 + u[:, -1])
    rain = 5e-5 * np.tanh(80.0 * lowest)
    up = 5.67e-8 * state["sea_surface_temperature"] ** 4
    down = 0.8 * 5.67e-8 * t[:, -1] ** 4
    return {
        "temperature_tendency": 2e-5 * np.sin((t - 250.0) / 15.0) + 5e-8 * sun[:, None],
        "specific_humidity_tendency": moistening,
        "u_wind_tendency": -drag * u,
        "v_wind_tendency": -drag * v,
        "convective_precipitation": rain,
        "large_scale_precipitation": 0.3 * rain * np.cos(state["albedo"]),
        "absorbed_solar": sun * (1.0 - 0.8 * state["albedo"]),
        "outgoing_longwave": 0.6 * down + 40.0,
        "surface_net_shortwave": 0.6 * sun * (1.0 - state["albedo"]),
        "surface_downward_longwave": down,
        "surface_upward_longwave": up,
        "sensible_heat_flux": 10.0 * (state["sea_surface_temperature"] - t[:, -1]),
        "evaporation": 3e-5 * (1.0 + 0.1 * u[:, -1] / 5.0),
        "surface_stress_u": -0.01 * u[:, -1],
        "surface_stress_v": -0.01 * v[:, -1],
        "surface_net_heat_flux": 0.6 * sun - 10.0 * (state["sea_surface_temperature"] - t[:, -1]),
    }


def _rows(count, seed=0):
    """``count`` rows of a store: its (sample, channel) arrays and its marks."""
    rng, grid = np.random.default_rng(seed), _column_grid()
    column = rng.integers(0, grid.columns, count).astype(np.int32)
    state = _state(rng, grid.latitude[column])
    values = {**state, **_response(state)}
    values["clat"], values["slat"] = (f(np.deg2rad(grid.latitude[column])) for f in (np.cos, np.sin))
    rows = {}
    for name, variables in _arrays().items():
        parts = []
        for v in variables:
            size = 1e-8 if "humidity" in v.name else 1e-5
            made = values[v.name] if v.name in values else size * rng.standard_normal((count, 8))
            parts.append(np.asarray(made).reshape(count, -1))
        rows[name] = np.concatenate(parts, axis=1).astype(np.float32)
    rows["time"] = START + int(TIME_STEP) * np.arange(count, dtype=np.int64)
    rows["column"] = column
    probability = np.minimum(1.0, 0.3 * grid.area / grid.area.mean())
    rows["weight"] = (grid.area / probability)[column].astype(np.float32)
    return rows


@pytest.fixture(scope="session")
def column_grid():
    """16 columns of 8 sigma levels."""
    return _column_grid()


@pytest.fixture(scope="session")
def make_rows():
    """``make_rows(count, seed)``: rows for :meth:`StoreWriter.append`."""
    return _rows


@pytest.fixture(scope="session")
def make_spec():
    """``make_spec(**changes)``: the specification of the tiny store, or one that differs in something."""
    from dataclasses import replace

    from subgrid.columns.layout import StoreSpec

    spec = StoreSpec(
        grid=_column_grid(),
        arrays=_arrays(),
        time_step=TIME_STEP,
        host="speedy",
        provenance={"made": "by the tests"},
        block=BLOCK,
    )
    return lambda **changes: replace(spec, **changes)


@pytest.fixture(scope="session")
def write_store(make_spec):
    """``write_store(path, {split: rows}, **changes)``: a finished store."""
    from subgrid.columns import StoreWriter

    def write(path, splits, **changes):
        writer = StoreWriter(path, make_spec(**changes))
        for name, rows in splits.items():
            writer.append(name, rows)
        return writer.finish()

    return write


@pytest.fixture(scope="session")
def split_rows():
    """The rows of the tiny store, by split."""
    return {name: _rows(count, seed) for seed, (name, count) in enumerate(SAMPLES.items(), start=1)}


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory, write_store, split_rows):
    """An open store of 8-level columns with train, validation and test; blocks of 256, the last ones short."""
    return write_store(tmp_path_factory.mktemp("data") / "tiny.zarr", split_rows)


@pytest.fixture(scope="session")
def make_emulator(tiny_store):
    """``make_emulator(variables=..., architecture=..., **settings)``: a fresh emulator with fitted transforms."""
    import torch

    from subgrid.emulator import EmulatorConfig, build_emulator
    from subgrid.training.statistics import fit_transforms

    def make(variables="speedy", architecture="mlp", network=None, store=tiny_store, **settings):
        torch.manual_seed(0)
        network = network if network is not None else ({"widths": [32, 32]} if architecture == "mlp" else {})
        emulator = build_emulator(
            architecture,
            store.variable_set(variables),
            store.grid.vertical,
            store.spec.time_step,
            EmulatorConfig(**settings),
            **network,
        )
        fit_transforms(emulator, store["train"])
        return emulator.eval()

    return make


@pytest.fixture(scope="session")
def closed_store(tmp_path_factory, write_store, split_rows, make_emulator):
    """The tiny store with evaporation and outgoing longwave such that water and energy close, as a host's do."""
    from subgrid.columns.variables import offsets
    from subgrid.emulator.budgets import column_budget, find_budget

    emulator = make_emulator()
    variables = emulator.variables
    place = offsets(variables.targets, emulator.levels)
    rows = {split: {name: values.copy() for name, values in part.items()} for split, part in split_rows.items()}
    for part in rows.values():
        for name, flux, sign in (("water", "evaporation", -1.0), ("energy", "outgoing_longwave", 1.0)):
            budget = column_budget(find_budget(name, variables), variables, emulator.grid)
            residual, _ = budget.of_rows(part["inputs"], part["targets"])
            part["targets"][:, place[flux].start] -= (sign * residual).astype(np.float32)
    return write_store(tmp_path_factory.mktemp("closed") / "store.zarr", rows)


@pytest.fixture(scope="session")
def tiny_emulator(make_emulator):
    """An untrained emulator with fitted transforms; do not change it."""
    return make_emulator()


@pytest.fixture(scope="session")
def train_config(tiny_store):
    """``train_config(**changes)``: a training run of seconds."""
    from subgrid.training import TrainConfig

    def make(**changes):
        settings = {
            "data": str(tiny_store.path),
            "network": {"widths": [32, 32]},
            "recipe_settings": {"epochs": 2, "batch_size": 256},
            "precision": "32-true",
            "buffer_blocks": 4,
            "log_every": 1,
        }
        return TrainConfig(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, train_config):
    """The folder of a finished training run of two epochs; do not change it."""
    from subgrid.training import fit

    run = tmp_path_factory.mktemp("runs") / "tiny"
    fit(train_config(), run)
    return run


@pytest.fixture(scope="session")
def wrapper():
    """The class of a network as it is published, with arithmetic that a test can repeat."""
    import torch

    class Wrapper(torch.nn.Module):
        """The contract of the published wrapper of v2_rh_mc: qc and qi in slots 120-239, cloud split by the ramp."""

        def __init__(self, confidence: bool = False) -> None:
            super().__init__()
            self.confidence = confidence
            self.register_buffer("weight", torch.linspace(0.5, 1.5, 60))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            t, rh, qc, qi = x[:, :60], x[:, 60:120], x[:, 120:180], x[:, 180:240]
            u, v, ps, sun = x[:, 240:300], x[:, 300:360], x[:, 540:541], x[:, 541:542]
            dt = (rh - 0.5) * 1e-5 * self.weight
            dqn = -(qc + qi) / 7200.0
            liquid = torch.clamp((t + 1200.0 * dt - 253.16) / 20.0, 0.0, 1.0)
            new = qc + qi + 1200.0 * dqn
            dqc, dqi = (liquid * new - qc) / 1200.0, ((1.0 - liquid) * new - qi) / 1200.0
            fluxes = torch.cat([0.7 * sun, ps * 1e-3, x[:, 542:548]], dim=1)
            y = torch.cat([dt, 1e-8 * rh, dqc, dqi, -1e-5 * u, -1e-5 * v, fluxes], dim=1)
            if self.confidence:
                y = torch.cat([y, 2.0 + 0.0 * x[:, :308]], dim=1)
            return y

    return Wrapper


@pytest.fixture(scope="session")
def published_file(tmp_path_factory, wrapper):
    """TorchScript of such a network; do not change it."""
    import torch

    path = tmp_path_factory.mktemp("published") / "published.pt"
    torch.jit.script(wrapper()).save(str(path))
    return path


@pytest.fixture(scope="session")
def write_normalisation():
    """``write_normalisation(folder, variables, levels)``: a folder of files as ClimSim publishes them."""
    import netCDF4

    from subgrid.columns.normalisation import published_files

    identity = {"state_rh", "state_qn", "liq_partition", "state_q0002", "state_q0003"}

    def fields(path, values, levels):
        with netCDF4.Dataset(path, "w") as file:
            file.createDimension("lev", levels)
            for v, value in values:
                made = file.createVariable(v.name, "f8", ("lev",) if v.kind == "profile" else ())
                made[...] = value

    def write(folder, variables, levels):
        names = published_files(variables)[0]
        pervar = "pervar" in names.inputs
        for part in ("inputs", "outputs"):
            (folder / part).mkdir(parents=True)
        ends = {"mean": 0.5, "max": 2.0, "min": -2.0}
        for part, end in ends.items():
            values = []
            for k, v in enumerate(variables.inputs, start=1):
                value = end * k + np.arange(levels) if v.kind == "profile" else end * k
                if v.name in identity and pervar:
                    value = float(part == "max")
                if v.name == "pbuf_CH4":
                    value = np.where(np.arange(levels) < levels // 2, value, 1.0)  # no range near the surface
                if v.name == "cam_in_SNOWHICE":
                    value = {"mean": 8.87e29, "max": 1e30, "min": 0.0}[part]
                values.append((v, value))
            fields(folder / "inputs" / names.inputs.replace("*", part), values, levels)
        scales = [(v, 10.0 * k) for k, v in enumerate(variables.targets, start=1)]
        fields(folder / "outputs" / names.outputs, scales, levels)
        for what in ("qc", "qi", "qn"):
            rates = ",".join(f"{1e7 / (k + 1):e}" for k in range(levels))
            (folder / "inputs" / f"{what}_exp_lambda_large.txt").write_text(rates)
        return folder

    return write


@pytest.fixture(scope="session")
def climsim_store(tmp_path_factory):
    """``climsim_store(set, levels=6, mask=False, splits=...)``: a small store of plausible ClimSim columns."""
    from subgrid.columns import ColumnGrid, StoreWriter, Variable, variable_set
    from subgrid.columns.layout import StoreSpec
    from subgrid.physics.vertical import VerticalGrid

    def rows(variables, levels, count, mask, seed):
        from subgrid.emulator.probe import PLAUSIBLE

        rng = np.random.default_rng(seed)
        parts = []
        for v in variables.inputs:
            top, surface = PLAUSIBLE.get(v.quantity, PLAUSIBLE.get(v.name, (0.0, 0.0)))
            ends = np.linspace(top, surface, levels) if v.kind == "profile" else np.array([surface])
            if v.name == "cam_in_SNOWHICE":
                ends = np.zeros(1)
            parts.append(ends * (1.0 + 0.1 * rng.standard_normal((count, len(ends)))))
        x = np.concatenate(parts, axis=1)
        width = sum(v.width(levels) for v in variables.targets)
        mixing = np.random.default_rng(0).standard_normal((x.shape[1], width)) / np.sqrt(x.shape[1])
        spread = x.std(axis=0)
        y = 1e-5 * ((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)) @ mixing
        found = {"inputs": x, "targets": y}
        if mask:
            found["scoring"] = rng.integers(0, 2, (count, 1))
        found = {name: values.astype(np.float32) for name, values in found.items()}
        found["time"] = START + 1200 * np.arange(count, dtype=np.int64)
        found["column"] = (np.arange(count) % 12).astype(np.int32)
        found["weight"] = np.ones(count, np.float32)
        return found

    def make(name, levels=6, mask=False, splits=(("train", 600), ("validation", 200), ("test", 200))):
        variables = variable_set(name)
        latitude = np.linspace(-80.0, 80.0, 12)
        vertical = VerticalGrid.sigma(np.linspace(0.0, 1.0, levels + 1).tolist())
        grid = ColumnGrid(latitude, 30.0 * np.arange(12.0), np.full(12, np.pi / 3.0), vertical)
        arrays = {"inputs": variables.inputs, "targets": variables.targets}
        if mask:
            arrays["scoring"] = (Variable("snowhice_mask", "scalar", "1"),)
        spec = StoreSpec(grid, arrays, 1200.0, "climsim", {"made": "by the tests"}, block=128)
        writer = StoreWriter(tmp_path_factory.mktemp("climsim") / f"{name}.zarr", spec)
        for seed, (split, count) in enumerate(splits, start=1):
            writer.append(split, rows(variables, levels, count, mask, seed))
        return writer.finish()

    return make


@pytest.fixture(scope="session")
def grid_file(tmp_path_factory):
    """A synthetic grid file with the competition's 384 columns and 60 levels."""
    from subgrid.columns.climsim.sample import sample_grid, write_grid

    path = tmp_path_factory.mktemp("grid") / "synthetic_384_grid-info.nc"
    write_grid(path, sample_grid(384, 60), "netcdf4")
    return path


@pytest.fixture(scope="session")
def kaggle_values():
    """``kaggle_values(rows, seed)``: (row, 556 + 368) plausible float64 values in the competition's order."""
    from subgrid.columns.kaggle.layout import INPUTS, LEVELS, TARGETS
    from subgrid.emulator.probe import PLAUSIBLE

    def make(rows, seed=0):
        rng, parts = np.random.default_rng(seed), []
        for v in (*INPUTS.values(), *TARGETS.values()):
            top, surface = PLAUSIBLE.get(v.quantity, PLAUSIBLE.get(v.name, (1e-9, 1e-5)))
            ends = np.linspace(top, surface, LEVELS) if v.kind == "profile" else np.array([surface])
            parts.append(ends * (1.0 + 0.05 * rng.standard_normal((rows, len(ends)))))
        return np.concatenate(parts, axis=1)

    return make


@pytest.fixture(scope="session")
def write_kaggle():
    """``write_kaggle(path, ids, values, header)``: a CSV (17 digits) or parquet file of the competition."""
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(path, ids, values, header, group=50):
        if path.suffix == ".parquet":
            columns = [pa.array(ids), *(pa.array(column) for column in values.T)]
            pq.write_table(pa.Table.from_arrays(columns, names=header), path, row_group_size=group)
            return path
        with path.open("w", newline="") as file:
            text = csv.writer(file, lineterminator="\n")
            text.writerow(header)
            text.writerows([name, *map(repr, row.tolist())] for name, row in zip(ids, values, strict=True))
        return path

    return write


@pytest.fixture(scope="session")
def kaggle_rows(kaggle_values):
    """Numbers and values of rows of the training file: four columns of each of 40 steps in succession."""
    step, column = np.divmod(np.arange(160), 4)
    return 384 * (100 + step) + 96 * column + 5, kaggle_values(160)


@pytest.fixture(scope="session")
def kaggle_train(tmp_path_factory, kaggle_rows, write_kaggle):
    """The training file of :func:`kaggle_rows`, as CSV."""
    from subgrid.columns.kaggle.layout import TRAIN_HEADER

    numbers, values = kaggle_rows
    path = tmp_path_factory.mktemp("kaggle") / "train.csv"
    return write_kaggle(path, [f"train_{n}" for n in numbers], values, TRAIN_HEADER)


@pytest.fixture(scope="session")
def kaggle_store(tmp_path_factory, kaggle_train, grid_file):
    """The training file as a store with train, validation and test."""
    from subgrid.columns.kaggle.convert import KaggleConfig, convert

    return convert(KaggleConfig((str(kaggle_train),), str(grid_file)), tmp_path_factory.mktemp("kaggle") / "k.zarr")


def pytest_configure(config):
    """Programs compiled by jax are kept for the session, over all its processes: many tests run the same ones."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        kept = tempfile.TemporaryDirectory(prefix="subgrid-compiled-")
        config.add_cleanup(kept.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = kept.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


#: Rooms whose files take minutes each.
LONG = ("benchmarks", "hosts", "package", "survival", "workflows")


def pytest_collection_modifyitems(items):
    """Long files come first, so that of two processes neither is left with one at the end."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


#: In CI everything that a test needs is installed; only these may be absent.
MAY_BE_ABSENT = ("GPU", "FTorch", "reference data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skipped test fails, unless it says that something is absent that CI cannot have."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(word in reason for word in MAY_BE_ABSENT):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where nothing may be: {reason}"
    return report


@pytest.fixture(scope="session")
def s3_server():
    """A local S3 server (moto's), with the environment variables that point there; its address."""
    import logging

    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # made with other settings
        yield settings["AWS_ENDPOINT_URL"]
    server.stop()


@pytest.fixture
def s3(s3_server, tmp_path_factory):
    """The URL of a fresh, empty bucket of the local S3 server."""
    import s3fs

    bucket = f"bucket-{os.urandom(6).hex()}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture
def memory():
    """The URL of an empty folder of fsspec's memory."""
    import fsspec

    yield "memory://tests"
    files = fsspec.filesystem("memory")
    if files.exists("/tests"):
        files.rm("/tests", recursive=True)


@pytest.fixture
def web(tmp_path):
    """A local web server on ``tmp_path``: its ``url``, the ``asked`` paths, and ``answers`` (status by path) to give.

    ``answers`` is used up: each status of a path's list once, then the file as it is.
    """
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from types import SimpleNamespace

    state = SimpleNamespace(asked=[], answers={})

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(self.path)
            waiting = state.answers.get(self.path, [])
            if waiting:
                self.send_error(waiting.pop(0))
            else:
                super().do_GET()

        def log_message(self, *args):
            del args

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
