"""Networks that give a distribution: their own loss, samples of it, and its mean where one answer is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from subgrid.base.errors import UsageError
from subgrid.networks.base import Network, NetworkShape


class ProbabilisticNetwork(Network, ABC):
    """A network whose ``forward`` is the mean of what it samples.

    Attributes:
        progress: how far training has come, 0 to 1, which a loss may depend on.
        distinct: how many different members a column has; 0: any number.

    Raises:
        UsageError: more than one head is asked for: the distribution itself says how sure it is.
    """

    def __init__(self, shape: NetworkShape, config: Any) -> None:
        super().__init__(shape, config)
        self.progress = 1.0
        self.distinct = 0
        if shape.heads > 1:
            raise UsageError(
                f"recipe confidence adds a second head, which {type(self).__name__} does not take: it gives a "
                "distribution itself"
            )

    @abstractmethod
    def losses(
        self, profiles: Tensor, scalars: Tensor, true_profiles: Tensor, true_scalars: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Elementwise losses (n, level, P) and (n, S), whose weighted mean is minimised."""

    @abstractmethod
    @torch.jit.ignore
    def sample(self, profiles: Tensor, scalars: Tensor, members: int, generator: torch.Generator) -> list[Tensor]:
        """Independent draws for every column: (member, n, level, P) and (member, n, S)."""

    @abstractmethod
    @torch.jit.ignore
    def member(self, profiles: Tensor, scalars: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """A draw that ``seed`` and the column itself decide, or one member: a deterministic network."""


def column_noise(column: Tensor, size: int, seed: int) -> Tensor:
    """Normal numbers (n, size) that the numbers of each column (n, width) and ``seed`` decide.

    The same column has the same noise in any batch; from one step of a climate model to the next it is another.
    Uniform numbers are the digits of a large sine, which float64 keeps whatever the order of a sum, turned normal by
    Box and Muller.
    """
    generator = torch.Generator().manual_seed(seed)
    exact = column.double()
    lot = torch.randn(column.shape[1], 2 * size, generator=generator).to(exact)
    phase = torch.rand(2 * size, generator=generator).to(exact)
    digits = 43758.5453 * torch.sin(exact @ lot + phase)
    uniform = digits - torch.floor(digits)
    radius = torch.sqrt(-2.0 * torch.log(uniform[:, :size].clamp(min=1e-7)))
    return (radius * torch.cos(2.0 * torch.pi * uniform[:, size:])).to(column)
