"""Settings of an emulator around its network: which features it reads, what bounds and constraints it keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from subgrid.base.errors import UsageError, unknown_name

#: How humidity and stability reach the network (see :mod:`subgrid.emulator.features`).
INPUTS = ("raw", "relative_humidity", "relative_humidity_buoyancy", "climate_invariant", "fifth_place")
#: How a budget is closed (see :class:`subgrid.emulator.constraints.Closure`).
CLOSURES = ("projection", "tendencies", "level")
WATER = ("none", "precipitation", *CLOSURES)
ENERGY = ("none", *CLOSURES)
#: How often each input profile reaches the network (see :mod:`subgrid.emulator.representations`).
REPRESENTATION = ("single", "multi")
#: Where means and spreads come from: the training columns level by level, these pooled over levels, or ClimSim's files.
NORMALIZATION = ("computed", "pooled", "official")
#: What masked outputs are set to (see :mod:`subgrid.emulator.masks`): 0, or their training mean.
MASKED_TO = ("zero", "mean")


@dataclass(frozen=True)
class EmulatorConfig:
    """Everything of an emulator that is neither network nor data.

    Args:
        inputs: ``raw`` (variables as they are), ``relative_humidity`` (in place of specific humidity),
            ``relative_humidity_buoyancy`` (and the buoyancy of a surface plume), ``climate_invariant`` (nothing that
            leaves its range in another climate) or ``fifth_place`` (the variables and nine profiles made of them).
        saturation: saturation formula of the features and of condensation, ``murray`` (SPEEDY) or ``sam``.
        clip_inputs: keep normalised inputs within the training range, widened by ``clip_margin``.
        clip_outputs: keep outputs within the training range, widened by ``clip_margin``.
        clip_margin: how far beyond the training range the bounds lie, as a share of its width. At 0 the lower bound of
            precipitation is zero, and cutting the network's scatter there makes it rain more on the mean.
        condense: condense what exceeds ``condense_above`` relative humidity within ``condense_hours``.
        condense_above: relative humidity, 1.
        condense_hours: time scale, h.
        water: ``none``; ``precipitation`` (precipitation = evaporation - column moistening); ``projection`` (the
            smallest change of moistening, evaporation and precipitation, in units of each output's spread, that closes
            the column's water), ``tendencies`` (of moistening alone) or ``level`` (of moistening on one level).
        energy: ``none``; ``projection`` (of heating, radiation and sensible heat), ``tendencies`` (of heating alone,
            which leaves the fluxes to the network) or ``level`` (of heating on one level), so that the column's energy
            closes as the host's does.
        positive_water: bound the loss of humidity, cloud liquid and cloud ice by what a layer holds.
        night: no fluxes of sunlight where there is no insolation.
        tropopause: no tendencies of water above the level, higher than 400 hPa, from which potential temperature rises
            by more than this, K/km (10 in climsim-online); 0: no such rule.
        top: no tendencies of waters and winds on so many levels from the top.
        limit_heating, limit_moistening, limit_acceleration: most of a tendency, K/day, g/kg/day, m/s/day; 0: no limit.
        normalization: ``computed`` (the training columns' float64 statistics), ``pooled`` (inputs with one mean and
            spread for all levels of a profile, waters and gases as logarithms) or ``official`` (ClimSim's published
            files; needs ``inputs=raw``; with ``representation=multi`` those of its Kaggle edition, of raw inputs).
        normalization_folder: where the published files lie; read when training begins, and not needed afterwards.
        normalization_inputs, normalization_outputs, normalization_rates: names of files in place of those that belong
            to the variable set (see :mod:`subgrid.columns.normalisation`).
        representation: ``single``, or ``multi``: each input profile in three normalisations at once.
        confidence: a second head predicts, for each normalised output, the loss that the first will have.
        member: of a network that gives a distribution, -1: its mean is the answer, or k: the k-th seeded draw, whose
            noise the numbers of each column decide.
        paper_compatible: with ``representation=multi``, the offset of the logarithm as ClimSim's Kaggle edition
            published it, which erases winds; for its checkpoints alone.
        mask: outputs that are set to a constant, in training and in every answer: ``NAME:12`` (the top 12 levels of a
            profile), ``NAME:12-27`` (levels 12 to 27), ``NAME`` (all of it), ``constant`` (those of a single value in
            the training columns); see :mod:`subgrid.emulator.masks`. A trained emulator may be given more of them.
        mask_to: the constant: ``zero``, or the training ``mean``.
        prune_inputs: ``official`` sets cloud inputs of so many levels from the top to 0.
        prune_outputs: ``official`` sets tendencies of waters and winds of so many levels from the top to 0.
    """

    inputs: str = "relative_humidity_buoyancy"
    saturation: str = "murray"
    clip_inputs: bool = True
    clip_outputs: bool = True
    clip_margin: float = 0.25
    condense: bool = False
    condense_above: float = 1.02
    condense_hours: float = 4.0
    water: str = "none"
    energy: str = "none"
    positive_water: bool = True
    night: bool = False
    tropopause: float = 0.0
    top: int = 0
    limit_heating: float = 0.0
    limit_moistening: float = 0.0
    limit_acceleration: float = 0.0
    normalization: str = "computed"
    normalization_folder: str = ""
    normalization_inputs: str = ""
    normalization_outputs: str = ""
    normalization_rates: str = ""
    representation: str = "single"
    confidence: bool = False
    member: int = -1
    paper_compatible: bool = False
    prune_inputs: int = 15
    prune_outputs: int = 12
    mask: tuple[str, ...] = ()
    mask_to: str = "zero"

    def __post_init__(self) -> None:
        choices = (
            ("inputs", INPUTS),
            ("saturation", ("murray", "sam")),
            ("water", WATER),
            ("energy", ENERGY),
            ("normalization", NORMALIZATION),
            ("representation", REPRESENTATION),
            ("mask_to", MASKED_TO),
        )
        for name, valid in choices:
            if getattr(self, name) not in valid:
                raise unknown_name(f"emulator.{name}", str(getattr(self, name)), valid)
        if not 0.0 <= self.clip_margin <= 10.0:
            raise UsageError(f"emulator.clip_margin={self.clip_margin} must lie in [0, 10]")
        if self.condense_hours <= 0 or not 0.5 <= self.condense_above <= 2.0:
            raise UsageError(
                f"emulator.condense_hours={self.condense_hours} must be positive and emulator.condense_above="
                f"{self.condense_above} within 0.5 and 2"
            )
        if not isinstance(self.mask, (list, tuple)) or not all(isinstance(word, str) for word in self.mask):
            raise UsageError(f"emulator.mask={self.mask} must be a list, such as [ptend_u:12,ptend_v:12]")
        object.__setattr__(self, "mask", tuple(self.mask))  # a list from JSON or the command line
        least_of = {"prune_inputs": 0, "prune_outputs": 0, "member": -1, "top": 0, "tropopause": 0}
        least_of |= dict.fromkeys(("limit_heating", "limit_moistening", "limit_acceleration"), 0)
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise UsageError(f"emulator.{name}={getattr(self, name)} must be at least {least}")
        if self.paper_compatible and self.representation != "multi":
            raise UsageError(
                "emulator.paper_compatible=true is about the offset of recipe multirepresentation, which this is not; "
                "networks have architecture.paper_compatible"
            )
        if self.normalization == "pooled" and self.representation == "multi":
            raise UsageError(
                "emulator.normalization=pooled gives each profile one mean and spread, of which recipe "
                "multirepresentation makes three of its own: use emulator.normalization=computed"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EmulatorConfig:
        """Rebuild from :meth:`to_dict`; raises :class:`UsageError` for keys that nothing reads."""
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name("emulator setting", key, known)
        return cls(**values)
