"""A conditional variational autoencoder: outputs from the column and a few latent normal numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, NetworkShape
from subgrid.networks.columns import Split, joined, normed_layers
from subgrid.networks.probabilistic import ProbabilisticNetwork, column_noise
from subgrid.networks.registry import architecture

#: Logarithms of standard deviations are kept within this, on outputs of unit spread.
MOST_LOG_STD = 6.0


@dataclass(frozen=True)
class CVAEConfig:
    """Settings of :class:`CVAE`.

    Attributes:
        widths: hidden layers of the encoder and of the decoder.
        latent: latent numbers.
        beta: weight of the divergence of the latent distribution from the normal one.
        dropout: probability of dropping a hidden value in training.

    Raises:
        UsageError: a setting is out of range.
    """

    widths: tuple[int, ...] = (512, 512)
    latent: int = 3
    beta: float = 0.01
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or max(self.widths) > MOST_CHANNELS:
            raise UsageError(f"cvae.widths must be a list within [1, {MOST_CHANNELS}], got {list(self.widths)}")
        if not 1 <= self.latent <= 1024:
            raise UsageError(f"cvae.latent must lie in [1, 1024], got {self.latent}")
        if not 0.0 <= self.beta < float("inf") or not 0.0 <= self.dropout < 1.0:
            raise UsageError(
                f"cvae.beta must be finite and not negative, and cvae.dropout in [0, 1), got {self.beta} and "
                f"{self.dropout}"
            )


@architecture("cvae", small=CVAEConfig(widths=(128, 128)), paper=CVAEConfig())
class CVAE(ProbabilisticNetwork):
    """ClimSim's conditional variational autoencoder (Yu et al. 2023; Sohn et al. 2015, "structured output").

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))`` is the mean over the latent numbers, by the 2 d
    points +-sqrt(d) on their axes: exact for a decoder that is quadratic in them. Training encodes the truth and the
    column to a normal distribution of the latent numbers, draws from it, and decodes it with the column to a mean and a
    standard deviation of each output. The loss is the negative log likelihood and ``beta`` times the Gaussian
    Kullback-Leibler divergence (the published code's term is not that).
    """

    def __init__(self, shape: NetworkShape, config: CVAEConfig) -> None:
        super().__init__(shape, config)
        last, latent = config.widths[-1], config.latent
        self.encoder = nn.Sequential(
            normed_layers(shape.flat_out + shape.flat_in, config.widths, config.dropout), nn.Linear(last, 2 * latent)
        )
        self.decoder = nn.Sequential(
            normed_layers(latent + shape.flat_in, config.widths, config.dropout), nn.Linear(last, 2 * shape.flat_out)
        )
        self.beta, self.latent = config.beta, latent
        self.flat_out = shape.flat_out
        axes = torch.eye(latent) * latent**0.5
        self.register_buffer("points", torch.cat([axes, -axes]), persistent=False)
        self.split = Split(shape)

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        column = joined(profiles, scalars)
        points: Tensor = self.points  # type: ignore[assignment]
        n, count = column.shape[0], points.shape[0]
        z = points.to(column.dtype).unsqueeze(1).expand(-1, n, -1)
        both = torch.cat([z, column.unsqueeze(0).expand(count, -1, -1)], dim=2).flatten(0, 1)
        mean = self.decoder(both).unflatten(0, [count, n]).mean(0)
        p, s = self.split(mean[:, : mean.shape[1] // 2])
        return p, s

    def decoded(self, z: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the flat outputs, (n, flat_out), for latent numbers (n, latent)."""
        mean, log_std = self.decoder(torch.cat([z, column], dim=1)).float().chunk(2, dim=1)
        return mean, log_std.clamp(-MOST_LOG_STD, MOST_LOG_STD).exp()

    @torch.jit.ignore
    def losses(
        self, profiles: Tensor, scalars: Tensor, true_profiles: Tensor, true_scalars: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negative log likelihood of each output without its constant, and beta times the divergence of its column."""
        column, truth = joined(profiles, scalars), joined(true_profiles, true_scalars)
        centre, log_std = self.encoder(torch.cat([truth, column], dim=1)).float().chunk(2, dim=1)
        log_std = log_std.clamp(-MOST_LOG_STD, MOST_LOG_STD)
        z = centre + log_std.exp() * torch.randn_like(centre)
        mean, std = self.decoded(z, column)
        likelihood = 0.5 * ((truth - mean) / std).square() + std.log()
        divergence = 0.5 * (centre.square() + (2.0 * log_std).exp() - 1.0 - 2.0 * log_std).sum(1, keepdim=True)
        p, s = self.split(likelihood + self.beta * divergence)
        return p, s

    @torch.jit.ignore
    def sample(self, profiles: Tensor, scalars: Tensor, members: int, generator: torch.Generator) -> list[Tensor]:
        """Independent draws, (member, n, level, P) and (member, n, S)."""
        column, found = joined(profiles, scalars), []
        for _ in range(members):
            z = torch.randn(len(column), self.latent, generator=generator).to(column)
            mean, std = self.decoded(z, column)
            found.append(mean + std * torch.randn(mean.shape, generator=generator).to(mean))
        return list(self.split(torch.stack(found)))

    @torch.jit.ignore
    def member(self, profiles: Tensor, scalars: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """A draw whose noise the column and ``seed`` decide."""
        column = joined(profiles, scalars)
        noise = column_noise(column, self.latent + self.flat_out, seed)
        mean, std = self.decoded(noise[:, : self.latent], column)
        p, s = self.split(mean + std * noise[:, self.latent :])
        return p, s
