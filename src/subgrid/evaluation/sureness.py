"""How well a confidence head knows its own errors: rank correlation of predicted and true loss."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from subgrid.base.errors import SubgridError
from subgrid.columns.store import Split
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import flatten, unflatten


def rank_correlation(emulator: Emulator, split: Split, columns: int = 20_000) -> dict[str, float]:
    """Spearman's rank correlation of the loss that the second head predicts and the squared error of the first.

    Args:
        emulator: trained with recipe ``confidence``.
        split: held out.
        columns: how many of its first columns are looked at.

    Returns:
        ``channels``: the mean over output channels that vary, each correlated over columns; ``pooled``: of all
        channels and columns together.

    Raises:
        SubgridError: the emulator has no confidence, or nothing varies.
    """
    parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for block in range(split.blocks):
        x, y = (split.read_variables(v, block) for v in (emulator.variables.inputs, emulator.variables.targets))
        parts.append(_losses(emulator, torch.from_numpy(x), torch.from_numpy(y)))
        if sum(len(one) for one, _ in parts) >= columns:
            break
    told, true = (np.concatenate(both)[:columns] for both in zip(*parts, strict=True))
    live = (true.std(axis=0) > 0) & (told.std(axis=0) > 0)
    if not live.any():
        raise SubgridError(f"{split.folder}: neither errors nor confidences vary")
    told, true = told[:, live], true[:, live]
    by_channel = [_spearman(a, b) for a, b in zip(told.T, true.T, strict=True)]
    return {"channels": float(np.mean(by_channel)), "pooled": _spearman(told.ravel(), true.ravel())}


def _losses(emulator: Emulator, x: torch.Tensor, y: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predicted and true loss of each normalised output, (n, channel)."""
    levels = emulator.levels
    n_in, n_out = len(emulator.features.profile_names), emulator.network.shape.profiles_out
    with torch.inference_mode():
        inputs = unflatten(x, n_in, levels)
        told = flatten(*emulator.confidence(*inputs))
        found = flatten(*emulator.predict(*emulator.encode(*inputs)))
        truth = flatten(*emulator.normalise_targets(*unflatten(y, n_out, levels)))
    return told.numpy(), (found - truth).square().numpy()


def _spearman(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
