"""An emulator as a function inside a jax program: through a callback, or converted to jax where that agrees."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, unknown_name
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.flat import FlatEmulator, MonitoredEmulator
from subgrid.hosts.driving import BRIDGES

logger = logging.getLogger("subgrid")
#: A conversion is used where every output agrees with torch to this share of its spread (root mean square).
AGREEMENT = 1e-5

#: x (column, n_in) -> y (column, n_out), diagnostics and distances (column, numbers).
FlatFunction = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


def _shapes(emulator: ColumnEmulator, columns: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Of what a :class:`MonitoredEmulator` gives for so many columns."""
    counted, distances = (sum(c.width for c in of) for of in (emulator.counters, emulator.watched))
    widths = (FlatEmulator(emulator).n_out, counted, distances)
    return tuple(jax.ShapeDtypeStruct((columns, width), np.float32) for width in widths)


def _called(call: Callable[[Any], tuple[np.ndarray, ...]], shapes: tuple[jax.ShapeDtypeStruct, ...]) -> FlatFunction:
    def function(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        y, counted, distances = jax.pure_callback(call, shapes, x)
        return jnp.asarray(y), jnp.asarray(counted), jnp.asarray(distances)

    return function


def callback_function(emulator: ColumnEmulator, columns: int) -> FlatFunction:
    """The emulator computed by torch outside the jax program."""
    flat = MonitoredEmulator(emulator).eval()

    def call(x: Any) -> tuple[np.ndarray, ...]:
        with torch.inference_mode():
            return tuple(part.numpy() for part in flat(torch.from_numpy(np.array(x))))

    return _called(call, _shapes(emulator, columns))


def null_callback_function(emulator: ColumnEmulator, columns: int) -> FlatFunction:
    """The callback without a network: zeros of the right shapes, to measure what the crossing itself costs."""
    shapes = _shapes(emulator, columns)
    nothing = tuple(np.zeros(s.shape, s.dtype) for s in shapes)

    def call(x: Any) -> tuple[np.ndarray, ...]:
        np.array(x)
        return nothing

    return _called(call, shapes)


def rms_departure(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Root-mean-square difference of (n, channel) values in spreads of each channel, the largest over channels."""
    spread = expected.astype(np.float64).std(axis=0)
    gap = np.sqrt(np.square(found.astype(np.float64) - expected).mean(axis=0))
    if not np.isfinite(spread).all():
        return float("inf")
    varies = spread > 1e-6 * np.abs(expected).mean(axis=0)
    return float((gap[varies] / spread[varies]).max(initial=0.0))


def converted_function(emulator: ColumnEmulator, sample: NDArray[np.float32]) -> FlatFunction:
    """The same through the torch.fx graph of the emulator, translated to jax.

    Agreement is the root-mean-square difference on ``sample`` in spreads of each output: at most 1e-5, or what torch's
    own float32 departs from its float64 (a well-trained network is steep at the onset of convection and magnifies the
    last bit of its inputs; 1e-5 is then below what float32 determines).

    Raises:
        SubgridError: an operation has no translation, or an output differs by more than that.
    """
    from subgrid.hosts.convert import to_jax

    flat, raw = MonitoredEmulator(emulator).eval(), torch.from_numpy(sample)
    function = to_jax(flat, (raw,))
    with torch.inference_mode():
        expected = flat(raw)[0].numpy()
        exact = copy.deepcopy(flat).double()(raw.double())[0].numpy()
    difference = rms_departure(expected, np.asarray(function(sample)[0]))
    allowed = max(AGREEMENT, rms_departure(exact, expected))
    if not difference <= allowed:
        raise SubgridError(
            f"the emulator converted to jax differs from torch by {difference:.1e} of an output's spread, more than "
            f"{allowed:.1e}: use bridge=callback"
        )
    logger.info("couple: runs inside jax (differs from torch by %.1e of an output's spread)", difference)
    return lambda x: tuple(function(x))  # type: ignore[return-value]


def flat_function(emulator: ColumnEmulator, sample: np.ndarray, bridge: str = "auto") -> tuple[FlatFunction, str]:
    """The emulator on ``sample.shape`` flat columns, and which bridge it uses.

    Args:
        emulator: in evaluation mode.
        sample: realistic columns (n, n_in), float32, on which a conversion is checked.
        bridge: ``callback``, ``jax``, or ``auto`` (jax where it agrees, else the callback).
    """
    if bridge not in BRIDGES:
        raise unknown_name("couple.bridge", bridge, BRIDGES)
    if bridge != "callback":
        try:
            return converted_function(emulator, sample), "jax"
        except SubgridError as error:
            if bridge == "jax":
                raise
            logger.info("couple: uses the callback (%s)", error)
    return callback_function(emulator, len(sample)), "callback"
