"""The system of Lorenz (1996): slow variables on a ring, advection by their neighbours, and fast variables below them.

    dx_k/dt = x_{k-1} (x_{k+1} - x_{k-2}) - x_k + F - (h c / b) sum_j y_{j,k}
    dy_j/dt = c b y_{j+1} (y_{j-1} - y_{j+2}) - c y_j + (h c / b) x_k

With two scales the column physics is the last term of the first line, the mean over a step; with one it is F - x_k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from subgrid.columns.variables import variable_set
from subgrid.hosts.lorenz96.settings import DAYS_PER_UNIT, Lorenz96Config
from subgrid.hosts.small import Parts, Situation, TorchModel, columns_around

#: Seconds of a unit of the system's time.
UNIT = 86400.0 * DAYS_PER_UNIT
BOUNDS = {"x": (-100.0, 100.0)}
PROCESSES = {"subgrid": ("x_tendency", "transfer")}
#: Spread of a perturbed slow variable at unit amplitude.
PUSH = 1.0


def rk4(rate: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...], step: float) -> tuple[Tensor, ...]:
    """One step of the classical Runge-Kutta scheme of fourth order."""

    def after(rates: tuple[Tensor, ...], share: float) -> tuple[Tensor, ...]:
        return tuple(s + share * step * r for s, r in zip(state, rates, strict=True))

    first = rate(*state)
    second = rate(*after(first, 0.5))
    third = rate(*after(second, 0.5))
    fourth = rate(*after(third, 1.0))
    return tuple(
        s + step / 6.0 * (a + 2.0 * b + 2.0 * c + d)
        for s, a, b, c, d in zip(state, first, second, third, fourth, strict=True)
    )


def advection(x: Tensor) -> Tensor:
    """``x_{k-1} (x_{k+1} - x_{k-2})`` along the first axis, which is a ring."""
    return torch.roll(x, 1, 0) * (torch.roll(x, -1, 0) - torch.roll(x, 2, 0))


class Rings(TorchModel):
    """Rings as columns, their slow variables as levels.

    The state holds ``x`` (slow, ring) and with two scales ``y`` (slow * fast, ring). What the fast variables do in a
    step is the difference that they make to it: the column physics added to a step without it is the full step.

    Args:
        config: settings.
        record_terms: keep the tendency of the process apart, which is the whole.
    """

    def __init__(self, config: Lorenz96Config | None = None, record_terms: bool = False) -> None:
        config = config or Lorenz96Config()
        grid = columns_around(config.columns * config.copies, config.slow)
        super().__init__(config, grid, variable_set("lorenz96"), BOUNDS, record_terms)
        self.pull = config.coupling * config.timescale / config.amplitude
        self._after: tuple[Parts, Parts] | None = None

    @property
    def processes(self) -> Mapping[str, tuple[str, ...]]:
        """One: what is not resolved."""
        return PROCESSES

    def first_state(self) -> Parts:
        """Near F, with small noise."""
        random = np.random.default_rng(self.config.seed)
        shape = (self.config.slow, self.config.columns)
        found = {"x": self.config.forcing / 2.0 + random.standard_normal(shape)}
        if self.config.scales == 2:
            found["y"] = 0.1 * random.standard_normal((shape[0] * self.config.fast, shape[1]))
        return {name: torch.from_numpy(np.tile(values, self.config.copies)) for name, values in found.items()}

    def inputs(self, state: Parts, step: int) -> Parts:
        """The ring and its forcing."""
        del step
        return {"x": state["x"], "forcing": torch.full_like(state["x"][0], self.config.forcing)}

    def _alone(self, x: Tensor) -> tuple[Tensor]:
        """Rate of change without column physics."""
        return (advection(x) if self.config.scales == 1 else advection(x) - x + self.config.forcing,)

    def _full(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Rates of change of slow and fast variables."""
        c, b = self.config.timescale, self.config.amplitude
        below = y.reshape(self.config.slow, self.config.fast, -1).sum(1)
        slow = advection(x) - x + self.config.forcing - self.pull * below
        turning = torch.roll(y, -1, 0) * (torch.roll(y, 1, 0) - torch.roll(y, -2, 0))
        return slow, c * b * turning - c * y + self.pull * torch.repeat_interleave(x, self.config.fast, 0)

    def process(self, name: str, at: Situation, before: Parts) -> Parts:
        """What a step with the rest of the system adds to a step without it, per second."""
        del name, before
        x = at.state["x"]
        if self.config.scales == 1:
            tendency = (self.config.forcing - x) / UNIT
        else:
            full, fast = rk4(self._full, (x, at.state["y"]), self.config.step)
            (alone,) = rk4(self._alone, (x,), self.config.step)
            tendency = (full - alone) / self.dt
            self._after = (at.state, {"y": fast})
        return {"x_tendency": tendency, "transfer": (x * tendency).mean(0)}

    def advance(self, state: Parts, at: Situation, targets: Parts, random: np.random.Generator) -> Parts:
        """The step without column physics, and the column physics; fast variables stay where nothing asked for them."""
        del random, at
        (alone,) = rk4(self._alone, (state["x"],), self.config.step)
        known = self._after[1] if self._after is not None and self._after[0] is state else {}
        return {**state, **known, "x": alone + self.dt * targets["x_tendency"]}

    def pushed(self, state: Parts, random: np.random.Generator) -> Parts:
        """Slow variables pushed by noise; the amplitude of each ring is exponential."""
        slow, n = state["x"].shape
        noise = random.exponential(size=n) * random.standard_normal((slow, n))
        return {**state, "x": state["x"] + PUSH * torch.from_numpy(noise)}
