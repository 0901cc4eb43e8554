"""The columns of the competition's files: their names, order and zero weights, derived from the variable set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError
from subgrid.columns.variables import Variable, channel_labels, offsets, variable_set

#: The competition's low-resolution files have no other number of levels.
LEVELS = 60
#: Rows of a model step, 20 minutes each, every seventh step of the run was taken for the training file.
COLUMNS, STEP_STRIDE = 384, 7
ID = "sample_id"

_SET = variable_set("kaggle")
#: Inputs and targets by name, in the files' order.
INPUTS: dict[str, Variable] = {name: v for name in _SET.published_inputs for v in _SET.inputs if v.name == name}
TARGETS: dict[str, Variable] = {v.name: v for v in _SET.targets}
INPUT_LABELS = channel_labels(INPUTS.values(), LEVELS)
TARGET_LABELS = channel_labels(TARGETS.values(), LEVELS)

#: Headers of the three kinds of file.
TRAIN_HEADER = [ID, *INPUT_LABELS, *TARGET_LABELS]
TEST_HEADER = [ID, *INPUT_LABELS]
SUBMISSION_HEADER = [ID, *TARGET_LABELS]
#: Rows of the published training file; an id is this prefix and the row's number.
TRAIN_ROWS, TRAIN_PREFIX = 10_091_520, "train_"

#: Tendencies that the competition does not score in the uppermost levels, and how many levels these are.
UNSCORED = ("ptend_q0001", "ptend_q0002", "ptend_q0003", "ptend_u", "ptend_v")
UNSCORED_LEVELS = 12


def zero_weight(levels: int = LEVELS) -> NDArray[np.bool_]:
    """Which outputs have the weight zero in the present sample submission, (channel,): 60 of 368 with 60 levels."""
    place = offsets(TARGETS.values(), levels)
    found = np.zeros(max(part.stop for part in place.values()), bool)
    for name in UNSCORED:
        found[place[name].start : place[name].start + min(UNSCORED_LEVELS, levels)] = True
    return found


def require_header(found: Sequence[str], expected: Sequence[str], where: str) -> None:
    """Refuse a header that is not ``expected``, by the names that are missing, repeated, unknown or out of order.

    Raises:
        SubgridError: it differs in any way; order counts, as other tools read these files by position.
    """
    if list(found) == list(expected):
        return
    missing = [name for name in expected if name not in set(found)]
    unknown = [name for name in found if name not in set(expected)]
    repeated = sorted({name for name in found if list(found).count(name) > 1})
    parts = [
        f"{word} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''} ({len(names)})"
        for word, names in (("missing", missing), ("unknown", unknown), ("repeated", repeated))
        if names
    ]
    if not parts:
        place = next(k for k, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        parts = [f"column {place + 1} is {found[place]}, expected {expected[place]}: the order differs"]
    raise SubgridError(f"{where}: its header is not the competition's: {'; '.join(parts)}")
