"""Whole days of plausible ClimSim columns on an unstructured grid, as arrays and as a store of shuffled rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

COLUMNS, LEVELS, DAYS, PER_DAY = 24, 6, 5, 12
TIMES = DAYS * PER_DAY
STEP = 1200.0


@dataclass(frozen=True)
class Whole:
    """A split as whole arrays, (time, column, ...), by variable name, and the store that holds its rows."""

    store: object
    variables: object
    values: dict
    time: np.ndarray


def unstructured_grid():
    """24 columns that share no latitude, of unequal area; hybrid levels."""
    from subgrid.columns import ColumnGrid
    from subgrid.physics.vertical import VerticalGrid

    rng = np.random.default_rng(5)
    latitude = np.degrees(np.arcsin(np.linspace(-0.99, 0.99, COLUMNS)))[rng.permutation(COLUMNS)]
    area = 1.0 + 0.3 * rng.random(COLUMNS)
    hyai = np.array([0.002, 0.02, 0.08, 0.12, 0.08, 0.03, 0.0])
    hybi = np.array([0.0, 0.0, 0.05, 0.2, 0.5, 0.8, 1.0])
    middle = [0.5 * (a[1:] + a[:-1]) for a in (hyai, hybi)]
    vertical = VerticalGrid(tuple(middle[0]), tuple(middle[1]), tuple(hyai), tuple(hybi), 1e5)
    return ColumnGrid(latitude, 360.0 * rng.random(COLUMNS), 4 * np.pi * area / area.sum(), vertical)


def fields(grid, seed):
    """Every variable of ClimSim that the sets v1, v2 and v2_rh_mc need, (time, column[, level]) float32."""
    from subgrid.columns.variables import catalogue
    from subgrid.physics.moisture import liquid_partition

    rng = np.random.default_rng(seed)

    def noise(*last):
        return rng.standard_normal((TIMES, COLUMNS, *last))

    found = {v.name: noise(LEVELS) if v.kind == "profile" else noise() for v in catalogue("climsim").variables.values()}
    sun = np.maximum(0.0, np.sin(2 * np.pi * np.arange(TIMES) / PER_DAY))[:, None] * np.ones(COLUMNS)
    warmth = 30.0 * np.cos(np.radians(grid.latitude))[:, None] + np.linspace(210.0, 270.0, LEVELS)
    found["state_t"] = warmth + 3.0 * noise(LEVELS)
    found["state_ps"] = 9.8e4 + 2e3 * noise()
    found["state_u"], found["state_v"] = 15.0 + 5.0 * noise(LEVELS), 5.0 * noise(LEVELS)
    found["state_q0001"] = 1e-2 * rng.random((TIMES, COLUMNS, LEVELS)) * np.linspace(0.01, 1.0, LEVELS)
    found["state_q0002"], found["state_q0003"] = 1e-5 * rng.random((2, TIMES, COLUMNS, LEVELS))
    for k, name in enumerate(("ptend_t", "ptend_u", "ptend_v")):
        found[name] = 1e-5 * (k + noise(LEVELS) + 3.0 * sun[..., None])
    for name in ("ptend_q0001", "ptend_q0002", "ptend_q0003"):
        found[name] = 3e-9 * noise(LEVELS)
        found[name][..., 0] = 0.0  # the stratosphere is dry: a published R2 of 0 / 0 or minus infinity
    found["cam_out_PRECC"] = 3e-8 * np.maximum(0.0, noise())
    for name in ("NETSW", "SOLS", "SOLL", "SOLSD", "SOLLD"):
        found[f"cam_out_{name}"] = 200.0 * sun * (1.0 + 0.1 * noise())
    found["cam_out_FLWDS"] = 300.0 + 20.0 * noise()
    found["cam_out_PRECSC"] = 1e-9 * np.maximum(0.0, noise())
    found["ptend_qn"] = found["ptend_q0002"] + found["ptend_q0003"]
    found["state_qn"] = found["state_q0002"] + found["state_q0003"]
    found["liq_partition"] = liquid_partition(found["state_t"])
    return {name: values.astype(np.float32) for name, values in found.items()}


@pytest.fixture(scope="session")
def whole_climsim(tmp_path_factory):
    """``whole_climsim(set, scoring=names, seed=0)``: a :class:`Whole` split ``scoring``, and a split ``train``."""
    from subgrid.columns import StoreWriter, variable_set
    from subgrid.columns.layout import StoreSpec
    from subgrid.columns.variables import catalogue

    def make(name, scoring=(), seed=0):
        grid, variables = unstructured_grid(), variable_set(name)
        arrays = {"inputs": variables.inputs, "targets": variables.targets}
        if scoring:
            arrays["scoring"] = tuple(catalogue("climsim").variables[n] for n in scoring)
        spec = StoreSpec(grid, arrays, STEP, "climsim", {"made": "by the tests"}, block=250, calendar="noleap")
        writer = StoreWriter(tmp_path_factory.mktemp("whole") / f"{name}.zarr", spec)
        time = 86400 * 400 + 7200 * np.arange(TIMES)
        column = np.tile(np.arange(COLUMNS, dtype=np.int32), TIMES)
        for split, number in (("train", seed + 100), ("scoring", seed)):
            values = fields(grid, number)
            order = np.random.default_rng(number).permutation(TIMES * COLUMNS)
            rows = {
                array: np.concatenate([values[v.name].reshape(TIMES * COLUMNS, -1) for v in held], axis=1)[order]
                for array, held in arrays.items()
            }
            rows |= {"time": np.repeat(time, COLUMNS)[order], "column": column[order]}
            rows["weight"] = grid.area.astype(np.float32)[column[order]]
            writer.append(split, rows)
        return Whole(writer.finish(), variables, values, time)

    return make
