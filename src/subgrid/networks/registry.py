"""The registry of architectures: names, sizes, and building one from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.plugins import import_offer, offered
from subgrid.networks.base import Network, NetworkShape, plain

ENTRY_POINT_GROUP = "subgrid.architectures"
DEFAULT_SIZE = "small"

Builder = TypeVar("Builder", bound=Callable[[NetworkShape, Any], Network])


@dataclass(frozen=True)
class _Architecture:
    """A registered builder and one config dataclass instance per size."""

    builder: Callable[[NetworkShape, Any], Network]
    sizes: dict[str, Any]


_REGISTERED: dict[str, _Architecture] = {}


def architecture(name: str, **sizes: Any) -> Callable[[Builder], Builder]:
    """Register a builder ``(shape, config) -> Network`` (a :class:`Network` subclass will do) under ``name``.

    Each keyword is a size and its config, an instance of one frozen dataclass whose fields are bool, int,
    float, str or non-empty tuples of one of these. The type of a field's value there is the type that an
    override of it must have.

    Raises:
        SubgridError: no size is given, a config is not a dataclass instance, or the name is already taken.
    """
    if not sizes:
        raise SubgridError(f"architecture '{name}' declares no size, give at least one: small=Config()")
    for size, config in sizes.items():
        if not is_dataclass(config) or isinstance(config, type):
            raise SubgridError(f"architecture '{name}', size '{size}': config is not a dataclass instance")

    def register(builder: Builder) -> Builder:
        known = _REGISTERED.get(name)
        if known is not None and _address(known.builder) != _address(builder):  # a reload may register again
            raise SubgridError(f"architecture '{name}' is registered twice; give one of them another name")
        _REGISTERED[name] = _Architecture(builder, dict(sizes))
        return builder

    return register


def names() -> list[str]:
    """All architectures by name: those registered here and those that installed packages offer."""
    return sorted({*_REGISTERED, *offered(ENTRY_POINT_GROUP)})


def sizes(name: str) -> list[str]:
    """The sizes of architecture ``name``, in the order in which they were declared.

    Raises:
        UsageError: there is no architecture of that name.
    """
    return list(_find(name).sizes)


def resolve(name: str, size: str = DEFAULT_SIZE, **overrides: Any) -> dict[str, Any]:
    """Every setting of architecture ``name`` at ``size`` with ``overrides`` applied, as a JSON-able dict.

    ``build(name, shape, **resolve(name, size, **overrides))`` is ``build(name, shape, size, **overrides)``.

    Raises:
        UsageError: an unknown architecture, size or setting, or a value that the setting does not take.
    """
    return plain(_config(name, size, overrides))


def build(name: str, shape: NetworkShape, size: str = DEFAULT_SIZE, **overrides: Any) -> Network:
    """A freshly initialised network, in training mode, on torch's default device and dtype.

    Weights are drawn from torch's global generator, so ``torch.manual_seed`` decides them.

    Args:
        name: a registered architecture, see :func:`names`.
        shape: sizes of the tensors.
        size: where the settings start from, see :func:`sizes`.
        overrides: settings to change, see :func:`resolve`.

    Raises:
        UsageError: as :func:`resolve`.
    """
    network = _find(name).builder(shape, _config(name, size, overrides))
    network.architecture = name
    return network


def _address(builder: Callable[..., Network]) -> tuple[str, str]:
    """The module and the name where a builder is defined."""
    return builder.__module__, builder.__qualname__


def _find(name: str) -> _Architecture:
    """The registered architecture; another package's is imported when it is first asked for."""
    if name not in _REGISTERED:
        point = offered(ENTRY_POINT_GROUP).get(name)
        if point is None:
            raise unknown_name("architecture", name, names())
        import_offer("architecture", point, lambda: name in _REGISTERED)
    return _REGISTERED[name]


def _config(name: str, size: str, overrides: dict[str, Any]) -> Any:
    """The config dataclass of ``name`` at ``size`` with ``overrides`` checked and applied."""
    known = _find(name).sizes
    if size not in known:
        raise unknown_name(f"size of architecture '{name}'", size, known)
    config = known[size]
    settings = [field.name for field in fields(config)]
    for key in overrides:
        if key not in settings:
            raise unknown_name(f"setting of architecture '{name}'", key, settings)
    changes = {k: _as_type(f"{name}.{k}", getattr(config, k), v) for k, v in overrides.items()}
    return replace(config, **changes)


def _as_type(label: str, default: Any, value: Any) -> Any:
    """``value`` as the type of ``default``: whole numbers pass as floats, any sequence as a tuple."""
    if isinstance(default, tuple):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise UsageError(f"{label} takes a list, like {list(default)}, got {value!r}")
        return tuple(_as_type(f"{label}[{i}]", default[0], item) for i, item in enumerate(value))
    wanted = type(default)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise UsageError(f"{label} takes a value of type {wanted.__name__}, like {default!r}, got {value!r}")
    return value
