"""Hard masks: outputs that are set to a constant at given levels, in training and in every answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from subgrid.base.errors import UsageError, unknown_name
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.emulator.transforms import Standardise

#: The word for outputs that are constant in the training columns.
CONSTANT = "constant"
_WORD = re.compile(r"(?P<name>[A-Za-z_]\w*)(?::(?P<first>\d+)(?:-(?P<last>\d+))?)?")


@dataclass(frozen=True)
class Mask:
    """An output, and which of its levels are masked: ``first`` to ``last``, both of them too, 0 at the top."""

    name: str
    first: int
    last: int


def parsed(word: str, variables: VariableSet, levels: int) -> Mask:
    """``NAME:12`` (the top 12 levels), ``NAME:12-27`` (levels 12 to 27) or ``NAME`` (all of it) as a mask.

    Raises:
        UsageError: another form, no such output, or levels that the grid has not.
    """
    match = _WORD.fullmatch(word)
    if match is None:
        raise UsageError(
            f"emulator.mask={word}: write NAME:12 for the top 12 levels of an output, NAME:12-27 for levels 12 to 27, "
            f"NAME for all of it, or {CONSTANT}"
        )
    name, first, last = match["name"], match["first"], match["last"]
    kinds = {v.name: v.kind for v in variables.targets}
    if name not in kinds:
        raise unknown_name("emulator.mask", name, [*kinds, CONSTANT])
    if first is None:
        return Mask(name, 0, levels - 1)
    if kinds[name] == "scalar":
        raise UsageError(f"emulator.mask={word}: {name} is a scalar, which has no levels; write emulator.mask=[{name}]")
    low, high = (0, int(first) - 1) if last is None else (int(first), int(last))
    if not 0 <= low <= high < levels:
        raise UsageError(f"emulator.mask={word}: the levels are 0 to {levels - 1}, from the top")
    return Mask(name, low, high)


def masked_channels(words: tuple[str, ...], variables: VariableSet, outputs: Standardise) -> tuple[Tensor, Tensor]:
    """Which outputs ``words`` mask, (level, P) and (S,) truth values.

    :data:`CONSTANT` stands for those whose range in the training columns is a single value.

    Raises:
        UsageError: see :func:`parsed`.
    """
    low, high = cast(Tensor, outputs.profile_low), cast(Tensor, outputs.profile_high)
    levels, found = len(low), torch.zeros(low.shape, dtype=torch.bool)
    single = torch.zeros(outputs.get_buffer("scalar_low").shape, dtype=torch.bool)
    places = ([v.name for v in profiles(variables.targets)], [v.name for v in scalars(variables.targets)])
    for word in words:
        if word == CONSTANT:
            found |= low == high
            single |= outputs.get_buffer("scalar_low") == outputs.get_buffer("scalar_high")
            continue
        mask = parsed(word, variables, levels)
        if mask.name in places[0]:
            found[mask.first : mask.last + 1, places[0].index(mask.name)] = True
        else:
            single[places[1].index(mask.name)] = True
    return found, single


def apply_mask(words: tuple[str, ...], to: str, variables: VariableSet, outputs: Standardise) -> None:
    """Make masked outputs constant: no spread, so that no loss, bound or constraint moves them off their value.

    Args:
        words: masks.
        to: ``zero`` or ``mean``.
        variables: the emulator's.
        outputs: its filled transform, which is changed.

    Raises:
        UsageError: see :func:`parsed`.
    """
    for kind, masked in zip(("profile", "scalar"), masked_channels(words, variables, outputs), strict=True):
        for name in ("inverse", "std", "low", "high", *(["mean"] if to == "zero" else [])):
            outputs.get_buffer(f"{kind}_{name}").masked_fill_(masked, 0.0)
