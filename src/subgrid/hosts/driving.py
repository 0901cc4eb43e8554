"""How an emulator acts in its host: all of the time or gradually, on all variables or some, for all processes or some.

No jax here, so that the command line can check it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from subgrid.base.errors import UsageError, unknown_name

#: How an emulator reaches a jax host.
BRIDGES = ("auto", "callback", "jax")
#: Parts of the host's own physics that can be computed anew from an emulator's answer.
KEEPS = ("none", "surface")
#: How the emulator's weight grows after the spin-up.
RAMPS = ("constant", "linear", "step")


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What a step of a coupled run takes from the emulator, and what from the host's own physics.

    Tendencies and fluxes are ``a emulator + (1 - a) host``. The weight a is 0 for ``spin_up_steps``; then, by ``ramp``:
    ``constant``: ``mix``; ``linear``: from 0 to ``mix`` over ``ramp_steps``; ``step``: 0 for ``ramp_off_steps`` and
    ``mix`` for ``ramp_on_steps``, in turn (the options of climsim-online's ``mmf_nn_emulator_nl``).

    Args:
        bridge: ``auto``, ``jax`` or ``callback``.
        keep: ``none``; ``surface``: the host computes its own surface fluxes from the emulator's radiation.
        mix: share of the emulator.
        spin_up_steps: steps of the host's own physics alone before it.
        ramp: how the share grows.
        ramp_steps: of a linear ramp.
        ramp_off_steps, ramp_on_steps: of ramp ``step``.
        act_on: targets that the emulator sets, the host's own physics all others; empty: all.
        shadow: the emulator is evaluated and scored along the host's own trajectory, on which it does not act.
    """

    bridge: str = "auto"
    keep: str = "none"
    mix: float = 1.0
    spin_up_steps: int = 0
    ramp: str = "constant"
    ramp_steps: int = 0
    ramp_off_steps: int = 10
    ramp_on_steps: int = 20
    act_on: tuple[str, ...] = ()
    shadow: bool = False

    def __post_init__(self) -> None:
        for name, valid in (("bridge", BRIDGES), ("keep", KEEPS), ("ramp", RAMPS)):
            if getattr(self, name) not in valid:
                raise unknown_name(f"couple.{name}", getattr(self, name), valid)
        if not 0.0 < self.mix <= 1.0:
            raise UsageError(f"couple.mix={self.mix} must lie in (0, 1]; couple.shadow=true lets nothing act")
        for name, least in (("spin_up_steps", 0), ("ramp_steps", 0), ("ramp_off_steps", 1), ("ramp_on_steps", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"couple.{name}={getattr(self, name)} must be at least {least}")
        if (self.ramp == "linear") != (self.ramp_steps > 0):
            raise UsageError(
                f"couple.ramp={self.ramp} with couple.ramp_steps={self.ramp_steps}: ramp=linear needs its steps, and "
                "no other ramp has any"
            )
        if not isinstance(self.act_on, (list, tuple)) or not all(isinstance(word, str) for word in self.act_on):
            raise UsageError(f"couple.act_on={self.act_on} must be a list, such as [temperature_tendency]")
        object.__setattr__(self, "act_on", tuple(self.act_on))  # a list from JSON or the command line
        changed = [f.name for f in fields(Drive)[2:-1] if getattr(self, f.name) != f.default]
        if self.shadow and changed:
            raise UsageError(f"couple.shadow=true lets nothing act: leave out couple.{changed[0]}")
        if self.keep != "none" and (self.act_on or self.needs_own):
            raise UsageError(f"couple.keep={self.keep} cannot be mixed with the host's own physics")

    @property
    def needs_own(self) -> bool:
        """Whether some step needs the host's own physics beside the emulator."""
        return bool(self.shadow or self.act_on or self.mix < 1.0 or self.spin_up_steps or self.ramp != "constant")

    def weight(self, step: Any, xp: Any) -> Any:
        """The share a of the emulator at ``step``, counted from 0 at the start of the run.

        Args:
            step: a number, or an array of ``xp``.
            xp: numpy, or jax.numpy inside a compiled program.
        """
        since = step - self.spin_up_steps
        if self.ramp == "linear":
            share = xp.clip((since + 1) / self.ramp_steps, 0.0, 1.0)
        elif self.ramp == "step":
            share = xp.where(since % (self.ramp_off_steps + self.ramp_on_steps) < self.ramp_off_steps, 0.0, 1.0)
        else:
            share = 1.0
        return xp.where(since >= 0, share * self.mix, 0.0)

    def require_known(self, targets: tuple[str, ...]) -> None:
        """Refuse names in ``act_on`` that the host has no target of."""
        for name in self.act_on:
            if name not in targets:
                raise unknown_name("couple.act_on", name, targets)
