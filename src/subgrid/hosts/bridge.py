"""An emulator as a function inside a jax program: through a callback, or converted to jax where that agrees."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

from subgrid.base.errors import SubgridError, unknown_name
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import FlatEmulator, flatten, unflatten

logger = logging.getLogger("subgrid")
BRIDGES = ("auto", "callback", "jax")
#: A conversion is used where its parts agree with torch to this share of every channel's spread.
AGREEMENT = 1e-5

FlatFunction = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def callback_function(emulator: Emulator, columns: int) -> FlatFunction:
    """x (columns, n_in) -> (y (columns, n_out), diagnostics) computed by torch outside the jax program."""
    flat = FlatEmulator(emulator).eval()

    def call(x: Any) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            y, counted = flat(torch.from_numpy(np.array(x)))
            return y.numpy(), counted.numpy()

    shapes = (
        jax.ShapeDtypeStruct((columns, flat.n_out), np.float32),
        jax.ShapeDtypeStruct((columns, len(emulator.counters)), np.float32),
    )

    def function(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, counted = jax.pure_callback(call, shapes, x)
        return jnp.asarray(y), jnp.asarray(counted)

    return function


def null_callback_function(emulator: Emulator, columns: int) -> FlatFunction:
    """The callback without a network: zeros of the right shapes, to measure what the crossing itself costs."""
    outputs = np.zeros((columns, FlatEmulator(emulator).n_out), np.float32)
    counted = np.zeros((columns, len(emulator.counters)), np.float32)
    shapes = (jax.ShapeDtypeStruct(outputs.shape, np.float32), jax.ShapeDtypeStruct(counted.shape, np.float32))

    def call(x: Any) -> tuple[np.ndarray, np.ndarray]:
        np.array(x)
        return outputs, counted

    def function(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, diagnostics = jax.pure_callback(call, shapes, x)
        return jnp.asarray(y), jnp.asarray(diagnostics)

    return function


class _Encode(nn.Module):
    """Raw flat columns to normalised flat inputs."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__()
        self.flat = FlatEmulator(emulator)

    def forward(self, x: Tensor) -> Tensor:
        return flatten(*self.flat.emulator.encode(*unflatten(x, self.flat.n_profiles, self.flat.levels)))


class _Network(nn.Module):
    """Normalised flat inputs to normalised flat outputs."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__()
        self.network = emulator.network
        self.shape = emulator.network.shape

    def forward(self, x: Tensor) -> Tensor:
        return flatten(*self.network(*unflatten(x, self.shape.profiles_in, self.shape.levels)))


def converted_function(emulator: Emulator, columns: int, sample: np.ndarray) -> FlatFunction:
    """The same through the torch.fx graph of the emulator, translated to jax.

    The features and the network must each agree with torch to 1e-5 of every channel's spread on ``sample``. Together
    they may differ by more (up to 1e-4 seen), because the onset of convection is steep: so do float32 and float64 in
    torch.

    Raises:
        SubgridError: an operation has no translation, or a part differs by more than 1e-5.
    """
    from subgrid.hosts.convert import agreement, to_jax

    raw = torch.from_numpy(sample)
    encode = _Encode(emulator).eval()
    with torch.inference_mode():
        normalised = encode(raw).clone()
    for name, part, given in (("features", encode, raw), ("network", _Network(emulator).eval(), normalised)):
        difference = agreement(part, to_jax(part, (given,)), (given,))
        if not difference <= AGREEMENT:
            raise SubgridError(
                f"the emulator's {name} converted to jax differ from torch by {difference:.1e} of a channel's spread, "
                f"more than {AGREEMENT:g}: use couple.bridge=callback"
            )
    function = to_jax(FlatEmulator(emulator).eval(), (raw,))
    return lambda x: tuple(function(x))  # type: ignore[return-value]


def flat_function(emulator: Emulator, sample: np.ndarray, bridge: str = "auto") -> tuple[FlatFunction, str]:
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
            return converted_function(emulator, len(sample), sample), "jax"
        except SubgridError as error:
            if bridge == "jax":
                raise
            logger.info("couple: uses the callback (%s)", error)
    return callback_function(emulator, len(sample)), "callback"
