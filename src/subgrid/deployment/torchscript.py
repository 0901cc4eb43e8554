"""TorchScript of an emulator: a traced core inside a scripted shell that asserts shapes."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subgrid.base.errors import SubgridError
from subgrid.base.files import only_writer, write_file, write_json
from subgrid.base.formats import BUNDLE, mark, write_record
from subgrid.base.logs import log_file
from subgrid.base.provenance import versions
from subgrid.columns.store import Split, open_store
from subgrid.columns.variables import channel_labels
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.files import load_for_store, require_emulator
from subgrid.emulator.flat import TILE, FlatEmulator, whole_tiles

#: Batch sizes at which an export is checked, as hosts chunk their columns.
BATCHES = (1, 7, 384)
#: Splits on whose columns it is checked, the first one that the store has.
SPLITS = ("test", "scoring", "validation", "train")
#: Largest difference, in spreads of each output, allowed at another batch size than the traced one.
TOLERANCE = 1e-5


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


def script(emulator: ColumnEmulator, sample: Tensor) -> torch.jit.ScriptModule:
    """The emulator as TorchScript, traced on ``sample`` (n, n_in) in evaluation mode; it runs where its weights are.

    Raises:
        SubgridError: an operation of the emulator cannot be scripted; it is named.
    """
    flat = FlatEmulator(emulator).cpu().eval()
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


def relative_difference(
    found: NDArray[np.float32], expected: NDArray[np.float32], spread: NDArray[np.float64]
) -> float:
    """max |found - expected| / spread over all channels that vary; infinite if anything is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    varies = spread > 0
    if not varies.any():
        return 0.0
    gap = np.abs(found.astype(np.float64) - expected).max(axis=0)
    return float((gap[varies] / spread[varies]).max())


def differences(
    module: torch.jit.ScriptModule,
    emulator: ColumnEmulator,
    sample: NDArray[np.float32],
    spread: NDArray[np.float64],
) -> dict[str, float]:
    """Scripted against eager: at each batch size of :data:`BATCHES` alike, and against the whole sample at once."""
    flat = FlatEmulator(emulator).eval()
    x = torch.from_numpy(sample)
    with torch.inference_mode():
        whole = flat(x)[0].numpy()
        found = {"same_batch": 0.0}
        for size in (b for b in BATCHES if b <= len(x)):
            pieces = [x[i : i + size] for i in range(0, len(x) - size + 1, size)]
            scripted = torch.cat([module(piece) for piece in pieces]).numpy()
            eager = torch.cat([flat(piece)[0] for piece in pieces]).numpy()
            found["same_batch"] = max(found["same_batch"], relative_difference(scripted, eager, spread))
            found[str(size)] = relative_difference(scripted, whole[: len(scripted)], spread)
    return found


def export(
    run: Path | str, data: Path | str, out: Path | str, variables: str = "", trust: bool = False
) -> dict[str, Any]:
    """Write ``model.pt``, ``contract.json`` and ``report.json`` (the measured differences) to ``out``.

    Args:
        run: run folder, emulator folder, or a published network's TorchScript file.
        data: a store on whose test columns the export is checked (else on those of scoring, validation or train).
        out: folder to write.
        variables: what a TorchScript file reads; empty for folders.
        trust: load the TorchScript file of a folder that holds a published network.

    Raises:
        SubgridError: the store has other levels; or the scripted model differs from the emulator: at all at the same
            batch size, or by more than 1e-5 of an output's spread at another one.
    """
    out = Path(out)
    require_emulator(run)
    store = open_store(data)
    split = store[next((name for name in SPLITS if name in store.split_names), SPLITS[0])]
    emulator = load_for_store(run, store, variables, trust)
    if store.grid.levels != emulator.levels:
        raise SubgridError(
            f"{data} has {store.grid.levels} levels, the emulator {emulator.levels}: check it on a store with "
            "its own levels"
        )
    sample = _sample(split, emulator, 3 * max(BATCHES))
    spread = split.variable_statistics(emulator.variables.targets)["std"]
    with only_writer(out), log_file(out, "export"):
        (out / "report.json").unlink(missing_ok=True)  # written last, it says "finished": not of an older model
        module = script(emulator, torch.from_numpy(sample[: max(BATCHES)]))
        contract = _contract(emulator)
        extra = {"contract.json": json.dumps(contract)}
        made = io.BytesIO()  # on a full disk torch itself ends the process
        torch.jit.save(module, made, _extra_files=extra)
        write_file(out / "model.pt", lambda beside: beside.write_bytes(made.getbuffer()))
        # TorchScript executes on loading: this is the file that was just written.
        loaded = torch.jit.load(str(out / "model.pt"), map_location="cpu")
        found = differences(loaded, emulator, sample, spread)
        largest = max(found.values())
        if found["same_batch"] > 0 or largest > TOLERANCE:
            (out / "model.pt").unlink()
            raise SubgridError(
                f"the scripted model differs from the emulator by {found} of an output's spread; allowed are 0 at the "
                f"same batch size and {TOLERANCE:g} otherwise"
            )
        report = {
            "max_relative_difference": largest,
            "same_batch": found.pop("same_batch"),
            "batches": found,
            "split": split.name,
            "file": "model.pt",
            "bytes": (out / "model.pt").stat().st_size,
            "n_in": contract["n_in"],
            "n_out": contract["n_out"],
        }
        write_json(out / "contract.json", contract)
        write_record(out / "report.json", BUNDLE, report)
        return report


def _sample(split: Split, emulator: ColumnEmulator, count: int) -> NDArray[np.float32]:
    """The first ``count`` columns of a split, repeated where it holds fewer."""
    found: list[NDArray[np.float32]] = []
    for block in range(split.blocks):
        found.append(split.read_variables(emulator.variables.inputs, block))
        if sum(map(len, found)) >= count:
            break
    columns = np.concatenate(found)
    return np.resize(columns, (count, columns.shape[1]))


def _contract(emulator: ColumnEmulator) -> dict[str, Any]:
    levels = emulator.levels
    flat = FlatEmulator(emulator)
    return {
        **mark(BUNDLE),
        "inputs": channel_labels(emulator.variables.inputs, levels),
        "outputs": channel_labels(emulator.variables.targets, levels),
        "units": {v.name: v.units for v in (*emulator.variables.inputs, *emulator.variables.targets)},
        "n_in": flat.n_in,
        "n_out": flat.n_out,
        "levels": levels,
        "level_order": "0 = top",
        "dtype": "float32",
        "time_step_s": emulator.time_step,
        "answer": emulator.answer,
        "versions": versions(),
    }
