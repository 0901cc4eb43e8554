"""What a host hands over and takes back, around an emulator: our own flat columns, or E3SM's."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subgrid.base.errors import UsageError
from subgrid.columns.store import Split
from subgrid.columns.variables import Variable, channel_labels, offsets, profiles, scalars, variable_set
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import FlatEmulator, flatten
from subgrid.emulator.published import READ_AS
from subgrid.physics.moisture import liquid_partition, partitioned_tendencies

#: Variable sets whose inputs E3SM's coupling code hands over.
E3SM_SETS = ("v2", "v2_rh", "v2_rh_mc", "v4", "v5", "v6", "v6_raw")
#: Cloud water in a name, and the liquid and the ice that it is the sum of.
SUM, LIQUID, ICE = "qn", "q0002", "q0003"
SHARE = "liq_partition"


class HostView(FlatEmulator):
    """The emulator as a host calls it: ``forward(x (n, n_in)) -> (y (n, n_out), diagnostics (n, numbers))``.

    Here what goes in and out are the emulator's own variables, one after the other.

    Args:
        emulator: without memory.
    """

    def __init__(self, emulator: ColumnEmulator) -> None:
        super().__init__(emulator)
        self.inputs: tuple[Variable, ...] = emulator.variables.inputs
        self.outputs: tuple[Variable, ...] = emulator.variables.targets
        #: What each normalised output is expected to err follows the outputs.
        self.confident = False

    def sample(self, split: Split, count: int) -> NDArray[np.float32]:
        """The first ``count`` columns of a split as the host hands them over, repeated where it holds fewer."""
        variables = _stored(self.inputs, split, ice=0.0)
        found: list[NDArray[np.float32]] = []
        for block in range(split.blocks):
            found.append(split.read_variables(variables, block))
            if sum(map(len, found)) >= count:
                break
        columns = np.concatenate(found)
        return np.resize(columns, (count, columns.shape[1]))

    def ranges(self, split: Split) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest value of each input, (n_in,) both."""
        found = split.variable_statistics(_stored(self.inputs, split, ice=0.0))
        return found["min"], found["max"]

    def spread(self, split: Split) -> NDArray[np.float64]:
        """Standard deviation of each output, (n_out,); of confidences 1, which is the spread of normalised outputs."""
        found = split.variable_statistics(_stored(self.outputs, split, ice=1.0))["std"]
        return np.concatenate([found, np.ones(self.n_out - len(found))])


class E3smView(HostView):
    """As E3SM's ClimSim coupling calls it (``&mmf_nn_emulator_nl``).

    In: raw physical variables, profiles before scalars. An emulator of ``v2_rh_mc``, ``v5`` or ``v6`` is given cloud
    liquid and ice, of which the sum and its liquid share are formed here; out: its tendency of the sum, divided by the
    ramp at the temperature after the step. Of an emulator with confidence, what each of its normalised outputs is
    expected to err follows.

    Args:
        emulator: of a set in :data:`E3SM_SETS`.

    Raises:
        UsageError: of another set; those that would fit are named.
    """

    def __init__(self, emulator: ColumnEmulator) -> None:
        super().__init__(emulator)
        name = emulator.variables.name
        if name not in E3SM_SETS:
            raise UsageError(
                f"--target e3sm hands over the inputs of ClimSim's sets {', '.join(E3SM_SETS)}; this emulator reads "
                f"'{name}': train one of those sets, or use --target ftorch"
            )
        host = variable_set(READ_AS.get(name, name))
        self.inputs, self.outputs = host.inputs, host.targets
        self.place = {name: (at.start, at.stop) for name, at in offsets(host.inputs, self.levels).items()}
        self.confident = isinstance(emulator, Emulator) and emulator.config.confidence
        own = len(channel_labels(emulator.variables.targets, self.levels))
        self.n_in = len(channel_labels(self.inputs, self.levels))
        self.n_out = len(channel_labels(self.outputs, self.levels)) + own * self.confident

    def tiles(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The host's columns in, its tendencies and fluxes (and confidences) out; whole tiles."""
        inputs = self.emulator.variables.inputs
        p = torch.stack([self._input(v.name, x) for v in profiles(inputs)], dim=2)
        s = torch.cat([self._input(v.name, x) for v in scalars(inputs)], dim=1)
        if self.confident:
            p, s, expected_p, expected_s = cast(Emulator, self.emulator).with_confidence(p, s)
            return torch.cat([self._answer(x, p, s), flatten(expected_p, expected_s)], dim=1), x[:, :0]
        p, s, _, diagnostics = self.emulator(p, s, x[:, :0])
        return self._answer(x, p, s), diagnostics

    def _given(self, name: str, x: Tensor) -> Tensor:
        """A variable that the host hands over, (n, width)."""
        first, end = self.place[name]
        return x[:, first:end]

    def _input(self, name: str, x: Tensor) -> Tensor:
        """What the emulator calls ``name``, made of what the host hands over."""
        if name in self.place:
            return self._given(name, x)
        if name == SHARE:
            share: Tensor = liquid_partition(self._given("state_t", x))
            return share
        return self._given(name.replace(SUM, LIQUID), x) + self._given(name.replace(SUM, ICE), x)

    def _answer(self, x: Tensor, p: Tensor, s: Tensor) -> Tensor:
        """The emulator's answer as the host takes it: cloud water divided into liquid and ice."""
        names = [v.name for v in profiles(self.emulator.variables.targets)]
        held = {name: p[:, :, i] for i, name in enumerate(names)}
        if f"ptend_{SUM}" in held:
            t, liquid, ice = (self._given(f"state_{part}", x) for part in ("t", LIQUID, ICE))
            change = (held["ptend_t"], held[f"ptend_{SUM}"])
            parts = partitioned_tendencies(t, liquid, ice, *change, self.emulator.time_step)
            held[f"ptend_{LIQUID}"], held[f"ptend_{ICE}"] = parts
        return torch.cat([*(held[v.name] for v in profiles(self.outputs)), s], dim=1)


#: What each target hands over and takes back.
VIEWS: dict[str, type[HostView]] = {"torchscript": HostView, "ftorch": HostView, "e3sm": E3smView, "cam": HostView}


def _stored(variables: tuple[Variable, ...], split: Split, ice: float) -> tuple[Variable, ...]:
    """``variables`` as the store can give them: cloud water that it holds as a sum alone counts as liquid.

    Args:
        variables: what is wanted.
        split: of the store.
        ice: factor of the sum in place of ice.
    """
    held = set(split.store.variables)
    found = []
    for variable in variables:
        if not set(variable.stored) <= held and (LIQUID in variable.name or ICE in variable.name):
            together = variable.name.replace(LIQUID, SUM).replace(ICE, SUM)
            variable = replace(variable, sum_of=((together, ice if ICE in variable.name else 1.0),))
        found.append(variable)
    return tuple(found)
