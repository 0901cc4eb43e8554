"""Tries a stranger's flat network on a few columns before anything relies on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subgrid.columns.normalisation import FILL, FILLED
from subgrid.columns.variables import VariableSet, profiles, scalars

ROWS = 8
#: Plausible values at the top and at the surface by quantity or name; what is not here is 0.
PLAUSIBLE = {
    "temperature": (210.0, 295.0),
    "specific_humidity": (2e-6, 1.2e-2),
    "relative_humidity": (0.01, 0.8),
    "cloud_liquid": (0.0, 2e-5),
    "cloud_ice": (1e-6, 0.0),
    "cloud_water": (1e-6, 2e-5),
    "liquid_partition": (0.0, 1.0),
    "u_wind": (20.0, 3.0),
    "v_wind": (-2.0, 1.0),
    "pbuf_ozone": (5e-6, 5e-8),
    "pbuf_CH4": (3e-7, 1e-6),
    "pbuf_N2O": (1e-7, 5e-7),
    "surface_pressure": (1e5, 1e5),
    "tm_state_ps": (1e5, 1e5),
    "insolation": (600.0, 600.0),
    "tm_pbuf_SOLIN": (600.0, 600.0),
    "pbuf_LHFLX": (90.0, 90.0),
    "pbuf_SHFLX": (15.0, 15.0),
    "pbuf_COSZRS": (0.5, 0.5),
    "tm_pbuf_COSZRS": (0.5, 0.5),
    "cam_in_ALDIF": (0.1, 0.1),
    "cam_in_ALDIR": (0.1, 0.1),
    "cam_in_ASDIF": (0.1, 0.1),
    "cam_in_ASDIR": (0.1, 0.1),
    "cam_in_LWUP": (430.0, 430.0),
    "cam_in_OCNFRAC": (1.0, 1.0),
    FILLED: (FILL, FILL),
    "clat": (0.8, 0.8),
    "slat": (0.6, 0.6),
    "icol": (192.0, 192.0),
}


@dataclass(frozen=True)
class Probe:
    """What was seen: why the network cannot be used (None: it can), what is worth a warning, numbers it gives."""

    fault: str | None
    warning: str = ""
    n_out: int = 0


def plausible_columns(variables: VariableSet, levels: int) -> NDArray[np.float32]:
    """A few plausible columns in the flat order of ``variables``, (8, n_in), each a little warmer than the last."""
    parts = []
    for variable in variables.inputs:
        top, surface = PLAUSIBLE.get(variable.quantity, PLAUSIBLE.get(variable.name, (0.0, 0.0)))
        values = np.linspace(top, surface, levels) if variable.kind == "profile" else np.array([surface])
        step = 0.5 if variable.quantity == "temperature" else 0.0
        parts.append(values + step * np.arange(ROWS)[:, None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def probe(module: torch.jit.ScriptModule, variables: VariableSet, order: Tensor, levels: int) -> Probe:
    """Call ``module`` on zeros and on plausible columns and judge what comes back.

    Args:
        module: ``(n, n_in) -> (n, n_out)``, or with confidences of cloud water in place of liquid and ice behind.
        variables: what it is held to take and give.
        order: where what it takes lies in the flat order of ``variables``.
        levels: number of levels.
    """
    width = len(profiles(variables.targets)) * levels + len(scalars(variables.targets))
    # the confidences are those of the cloud-water outputs, one profile fewer
    allowed = (width, width + width - levels)
    columns = torch.from_numpy(plausible_columns(variables, levels)).index_select(1, order)
    warnings = []
    for what, x in (("columns of zeros, such as hosts add as padding", torch.zeros_like(columns)), ("", columns)):
        given = x.clone()
        try:
            with torch.no_grad():
                y = module(given)
        except RuntimeError as error:
            return Probe(_refusal(str(error), x.shape[1]))
        if not isinstance(y, Tensor) or y.dim() != 2 or y.shape[0] != ROWS or y.shape[1] not in allowed:
            return Probe(
                f"for {ROWS} columns of {x.shape[1]} numbers it gives {_described(y)}, expected is ({ROWS}, {width}), "
                f"or ({ROWS}, {allowed[1]}) with confidences"
            )
        if y.device.type != "cpu" or y.dtype != torch.float32:
            return Probe(f"it gives {y.dtype} on {y.device}, expected is torch.float32 on the CPU")
        if not torch.isfinite(y).all():
            if not what:
                return Probe("it gives NaN or infinity for plausible columns")
            warnings.append(f"gives NaN or infinity for {what}")
        if not torch.equal(given, x):
            warnings.append("changes its input in place; it is handed a copy")
    return Probe(None, " and ".join(dict.fromkeys(warnings)), y.shape[1])


def _refusal(error: str, n_in: int) -> str:
    """A call that failed, in one line; torch puts the reason last."""
    reason = next((line.strip() for line in reversed(error.strip().splitlines()) if line.strip()), "no reason given")
    if any(word in error for word in ("CUDA", "cuda", "NVIDIA")):
        return f"it needs CUDA ({reason}): have its authors keep constants in buffers, or script it again for the CPU"
    return f"it does not take {n_in} numbers a column ({reason})"


def _described(y: object) -> str:
    return str(tuple(y.shape)) if isinstance(y, Tensor) else type(y).__name__
