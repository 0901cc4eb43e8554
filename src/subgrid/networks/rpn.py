"""Randomised prior networks: many small networks, each beside a random one that is never trained."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, NetworkShape
from subgrid.networks.columns import Split, joined
from subgrid.networks.probabilistic import ProbabilisticNetwork
from subgrid.networks.registry import architecture

SLOPE = 0.15


@dataclass(frozen=True)
class RPNConfig:
    """Settings of :class:`RPN`.

    Attributes:
        widths: hidden layers of each member and of its prior.
        members: how many.
        prior: what the fixed network's outputs are multiplied by.
        share: of the training columns that each member sees.

    Raises:
        UsageError: a setting is out of range.
    """

    widths: tuple[int, ...] = (768, 640, 512, 640, 640)
    members: int = 128
    prior: float = 1.0
    share: float = 0.8

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or max(self.widths) > MOST_CHANNELS:
            raise UsageError(f"rpn.widths must be a list within [1, {MOST_CHANNELS}], got {list(self.widths)}")
        if not 2 <= self.members <= 1024:
            raise UsageError(f"rpn.members must lie in [2, 1024], got {self.members}")
        if not 0.0 <= self.prior < float("inf") or not 0.0 < self.share <= 1.0:
            raise UsageError(f"rpn.prior must be finite and not negative, got {self.prior}; rpn.share in (0, 1]")


class _MemberLinear(nn.Module):
    """A linear layer of each member, (member, n, width_in) -> (member, n, width_out)."""

    def __init__(self, members: int, width_in: int, width_out: int) -> None:
        super().__init__()
        bound = width_in**-0.5
        self.weight = nn.Parameter(torch.empty(members, width_in, width_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, width_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


def _networks(widths: list[int], members: int) -> nn.Sequential:
    """Networks of ``members`` side by side, with LeakyReLU between their layers."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [_MemberLinear(members, a, b), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1])


@architecture("rpn", small=RPNConfig(widths=(64, 64), members=8), paper=RPNConfig())
class RPN(ProbabilisticNetwork):
    """ClimSim's randomised prior networks (Yu et al. 2023; Osband et al. 2018, arXiv:1806.03335).

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))`` is the mean of all members. A member is a
    trained network plus ``prior`` times a network of the same form whose random weights stay as they are; it learns
    from its own share of the columns, which a fixed random number of each column decides.
    """

    def __init__(self, shape: NetworkShape, config: RPNConfig) -> None:
        super().__init__(shape, config)
        widths = [shape.flat_in, *config.widths, shape.flat_out]
        self.trained = _networks(widths, config.members)
        self.fixed = _networks(widths, config.members).requires_grad_(requires_grad=False)
        self.prior, self.share, self.count = config.prior, config.share, config.members
        self.distinct = config.members
        self.register_buffer("lot", torch.randn(shape.flat_in, config.members))
        self.split = Split(shape)

    def members(self, profiles: Tensor, scalars: Tensor) -> Tensor:
        """Flat outputs of all members, (member, n, flat_out)."""
        column = joined(profiles, scalars).unsqueeze(0).expand(self.count, -1, -1)
        found: Tensor = self.trained(column) + self.prior * self.fixed(column)
        return found

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        p, s = self.split(self.members(profiles, scalars).mean(0))
        return p, s

    @torch.jit.ignore
    def losses(
        self, profiles: Tensor, scalars: Tensor, true_profiles: Tensor, true_scalars: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean over members of the squared error, where the column is in the member's share."""
        truth = joined(true_profiles, true_scalars)
        with torch.no_grad(), torch.autocast(truth.device.type, enabled=False):
            number = joined(profiles, scalars).double() @ self.get_buffer("lot").double()
            seen = ((number * 1e3) % 1.0 < self.share).T.float() / self.share
        error = (self.members(profiles, scalars).float() - truth).square()
        p, s = self.split((seen.unsqueeze(2) * error).mean(0))
        return p, s

    @torch.jit.ignore
    def sample(self, profiles: Tensor, scalars: Tensor, members: int, generator: torch.Generator) -> list[Tensor]:
        """The members themselves in a random order, each once before any comes again."""
        rounds = -(-members // self.count)
        order = torch.cat([torch.randperm(self.count, generator=generator) for _ in range(rounds)])[:members]
        return list(self.split(self.members(profiles, scalars)[order]))

    @torch.jit.ignore
    def member(self, profiles: Tensor, scalars: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Member number ``seed``, counted round."""
        p, s = self.split(self.members(profiles, scalars)[seed % self.count])
        return p, s
