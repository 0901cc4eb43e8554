"""Training that begins from the weights of another run, on the same or another store."""

from __future__ import annotations

from subgrid.base.errors import UsageError
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.files import FIXED, load_emulator

#: What becomes of the other run's normalisation: kept as it is, or fitted to the new store.
TRANSFORMS = ("kept", "refitted")


def start_from(emulator: Emulator, run: str, transforms: str) -> None:
    """Give ``emulator`` the weights of ``run``, with its transforms unless they are to be refitted.

    Args:
        emulator: of the same variables, grid, step, architecture and inputs; its metadata says where it began.
        run: run folder or emulator folder.
        transforms: ``kept`` or ``refitted``.

    Raises:
        SubgridError: the run holds no sound emulator.
        UsageError: it differs in what its weights depend on; the message says in what.
    """
    held = load_emulator(run)
    wrong = differences(emulator, held)
    if wrong:
        raise UsageError(
            f"from={run} cannot begin this run, which has another {', '.join(wrong)}: give the same, or train from the "
            "start"
        )
    if transforms == "kept":
        emulator.load_state_dict(held.state_dict())
    else:
        emulator.network.load_state_dict(held.network.state_dict())
    said = {name: held.metadata[name] for name in ("store", "recipe", "seed", "weights") if name in held.metadata}
    emulator.metadata["from"] = {"run": run, "transforms": transforms, **said}


def differences(emulator: Emulator, held: Emulator) -> list[str]:
    """Names of what differs between two emulators so that one's weights make no sense in the other."""

    def shapes(one: Emulator) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in one.state_dict().items()}

    pairs = {
        "set of variables": (emulator.variables, held.variables),
        "vertical grid": (emulator.grid.to_dict(), held.grid.to_dict()),
        "time step": (emulator.time_step, held.time_step),
        "architecture": (emulator.network.architecture, held.network.architecture),
        **{f"emulator.{name}": (getattr(emulator.config, name), getattr(held.config, name)) for name in FIXED},
        # more outputs may be masked, but what lies below a mask was never learned
        "emulator.mask": (set(held.config.mask) - set(emulator.config.mask), set()),
        "emulator.mask_to": (held.config.mask and emulator.config.mask_to, held.config.mask and held.config.mask_to),
    }
    found = [name for name, (ours, theirs) in pairs.items() if ours != theirs]
    if not found and shapes(emulator) != shapes(held):
        found = ["size of the network"]
    return found
