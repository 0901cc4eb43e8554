"""TorchScript of a host's view of an emulator: a traced core inside a scripted shell that asserts shapes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subgrid.base.errors import SubgridError
from subgrid.deployment.vectors import largest_difference
from subgrid.emulator.flat import TILE, FlatEmulator, whole_tiles

#: Batch sizes at which an export is checked, as hosts chunk their columns.
BATCHES = (1, 7, 384)
#: Most calls of each size: single columns take longest.
CALLS = 128


class _Core(nn.Module):
    """The flat emulator without diagnostics, for whole tiles of columns: what is traced."""

    def __init__(self, flat: FlatEmulator) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.flat.tiles(x)[0]
        return y


class Shell(nn.Module):
    """Asserts what a foreign caller could get wrong, then runs the traced core on whole tiles of columns.

    ``forward(x (ncol, n_in) float32) -> (ncol, n_out) float32``, raw SI. A row of zeros, with which hosts fill what is
    left of a chunk, is no column: it is answered with zeros.

    Args:
        core: takes whole tiles.
        n_in, n_out: widths.
        filler: (1, n_in), a column that stands for a row of zeros within the core.
    """

    def __init__(self, core: torch.jit.ScriptModule, n_in: int, n_out: int, filler: Tensor) -> None:
        super().__init__()
        self.core, self.n_in, self.n_out, self.tile = core, n_in, n_out, TILE
        self.register_buffer("filler", filler)

    def forward(self, x: Tensor) -> Tensor:
        """Raw SI in and out."""
        assert x.dim() == 2, "subgrid: the input must have two dimensions, (columns, n_in)"
        assert x.size(1) == self.n_in, "subgrid: wrong number of inputs per column"
        assert x.dtype == torch.float32, "subgrid: the input must be float32"
        filler: Tensor = self.filler  # type: ignore[assignment]
        columns = x.size(0)
        short = (self.tile - columns % self.tile) % self.tile
        if short > 0:
            x = torch.cat([x, filler.expand(short, self.n_in)])
        empty = (x == 0.0).all(dim=1, keepdim=True)
        y: Tensor = self.core(torch.where(empty, filler, x))
        y = torch.where(empty, torch.zeros_like(y), y)[:columns]
        assert y.size(0) == columns and y.size(1) == self.n_out, "subgrid: wrong shape of output"
        return y


def script(flat: FlatEmulator, sample: Tensor) -> torch.jit.ScriptModule:
    """The view as TorchScript, traced on ``sample`` (n, n_in) in evaluation mode; it runs where its weights are.

    Raises:
        SubgridError: an operation of the emulator cannot be scripted; it is named.
    """
    flat = flat.cpu().eval()
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            core = torch.jit.trace(_Core(flat).eval(), whole_tiles(sample), check_trace=False)
            _follow_device(core)
            filler = sample[:1].clone()
            shell: torch.jit.ScriptModule = torch.jit.script(Shell(core, flat.n_in, flat.n_out, filler).eval())
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise SubgridError(f"the emulator cannot be written as TorchScript: {reason}") from error
    for parameter in shell.parameters():
        parameter.requires_grad_(False)
    return shell


def _follow_device(module: Any) -> None:
    """Where tracing wrote down the device of the sample, take that of the input instead; in all submodules."""
    for part in module.modules():
        if not part._c._has_method("forward"):
            continue
        graph = part.graph
        torch._C._jit_pass_erase_shape_information(graph)  # the devices with it: known ones would be folded again
        tensor = next((value for value in list(graph.inputs())[1:] if value.type().kind() == "TensorType"), None)
        constants = graph.findAllNodes("prim::Constant")
        fixed = [node for node in constants if node.output().type().kind() == "DeviceObjType"]
        if tensor is None or not fixed:
            continue
        device = graph.create("prim::device", [tensor])
        graph.prependNode(device)
        device.output().setType(fixed[0].output().type())
        for node in fixed:
            node.output().replaceAllUsesWith(device.output())
            node.destroy()


def differences(
    module: torch.jit.ScriptModule,
    flat: FlatEmulator,
    sample: NDArray[np.float32],
    spread: NDArray[np.float64],
) -> dict[str, float]:
    """Scripted against eager: at each batch size of :data:`BATCHES` alike, and against the whole sample at once."""
    flat = flat.eval()
    x = torch.from_numpy(sample)
    with torch.inference_mode():
        whole = flat(x)[0].numpy()
        found = {"same_batch": 0.0}
        for size in (b for b in BATCHES if b <= len(x)):
            pieces = [x[i : i + size] for i in range(0, len(x) - size + 1, size)][:CALLS]
            scripted = torch.cat([module(piece) for piece in pieces]).numpy()
            eager = torch.cat([flat(piece)[0] for piece in pieces]).numpy()
            found["same_batch"] = max(found["same_batch"], largest_difference(scripted, eager, spread))
            found[str(size)] = largest_difference(scripted, whole[: len(scripted)], spread)
    return found
