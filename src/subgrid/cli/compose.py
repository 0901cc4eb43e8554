"""``key=value`` overrides on typed configs: Hydra composes, its errors become nearest names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import product
from typing import Any, TypeVar

from subgrid.base.errors import SubgridError, UsageError, nearest, unknown_name

Config = TypeVar("Config")


def _keys(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of all settings of a dataclass type; ``from_`` is the word ``from``, which Python keeps."""
    found = []
    for field in fields(config):
        found.append(prefix + field.name.rstrip("_"))
        default = field.default_factory if field.default_factory is not MISSING else field.default
        nested = default if isinstance(default, type) else type(default)
        if is_dataclass(nested):
            found += _keys(nested, f"{prefix}{field.name}.")
    return found


def compose(
    config: type[Config],
    overrides: Sequence[str],
    groups: dict[str, dict[str, Any]] | None = None,
    open_groups: Iterable[str] = (),
    defaults: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Resolve ``overrides`` on the defaults of a dataclass.

    Args:
        config: dataclass type; its nested dataclasses are nested settings.
        overrides: ``key=value`` words, Hydra's grammar.
        groups: choices by setting: ``{"recipe": {"standard": {...defaults}}}``; ``recipe=standard`` picks one and
            ``recipe.epochs=3`` changes it.
        open_groups: groups whose settings are checked later by whoever reads them.
        defaults: nested settings whose defaults are others here, by the name of the nested dataclass.

    Returns:
        Plain nested dict of resolved settings; groups hold ``name`` and their settings.

    Raises:
        UsageError: unknown keys, choices or malformed words, with the nearest valid names.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    logging.getLogger("hydra").setLevel(logging.ERROR)
    groups = groups or {}
    valid = [k for k in _keys(config) if k.split(".")[0] not in groups]
    valid += [key for group, choices in groups.items() for key in (group, *_group_keys(group, choices))]
    words = [_checked(word, valid, groups, tuple(open_groups)) for word in overrides]
    store = ConfigStore.instance()
    store.store(name="verb", node=_root(config, groups, defaults or {}))
    for group, choices in groups.items():
        for name, settings in choices.items():
            store.store(group=group, name=name, node={"name": name, **settings})
    GlobalHydra.instance().clear()
    try:
        with initialize(version_base=None, config_path=None):
            composed = hydra_compose(config_name="verb", overrides=words)
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_first_line(error)) from error
    finally:
        GlobalHydra.instance().clear()
    assert isinstance(plain, dict)
    logging.getLogger("subgrid").debug("settings: %s", plain)
    return {str(k): v for k, v in plain.items()}


@dataclass(frozen=True)
class Combination:
    """One choice from every comma list: the words with it, and names of the choices but those of :data:`NAMED`."""

    words: list[str]
    names: list[str]


#: Keys whose values a name has in any case.
NAMED = ("architecture", "recipe", "seed")


def combinations(words: Sequence[str]) -> list[Combination]:
    """All choices from the lists in ``words``, the last list fastest; Hydra's grammar: ``seed=1,2``, ``x=range(1,4)``.

    Raises:
        UsageError: a word that is not ``key=value``, or not in that grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    choices: list[list[tuple[str, str]]] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key) or "${" in value:
            raise UsageError(f"'{word}' is not of the form key=value or key=value,value (interpolation is not taken)")
        try:
            parsed = OverridesParser.create().parse_override(word)
            values = list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else [None]
        except HydraException as error:
            raise UsageError(_first_line(error)) from error
        plain = key.rpartition(".")[2]
        choices.append(
            [
                (word, "") if one is None else (f"{key}={one}", "" if key in NAMED else f"{plain}{_in_a_name(one)}")
                for one in values
            ]
        )
    found = []
    for chosen in product(*choices):
        found.append(Combination([word for word, _ in chosen], [name for _, name in chosen if name]))
    return found


def _in_a_name(value: str) -> str:
    """``value`` as a part of a folder's name: what is more than letters, digits, dots and signs becomes ``_``."""
    return re.sub(r"[^\w.+]+", "_", value).strip("_")


def _group_keys(group: str, choices: dict[str, Any]) -> list[str]:
    return sorted({f"{group}.{key}" for settings in choices.values() for key in settings})


def _root(config: Any, groups: dict[str, dict[str, Any]], changed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The config's defaults as a plain tree, with a defaults list that picks the first choice of each group."""
    from omegaconf import OmegaConf

    tree = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(tree, dict)
    tree = {str(name).rstrip("_"): value for name, value in tree.items()}
    for name, settings in changed.items():
        tree[name] = {**tree[name], **settings}
    for group in groups:
        tree.pop(group, None)
    chosen = {f.name: f.default for f in fields(config) if f.name in groups}
    defaults: list[Any] = [{group: chosen[group]} for group in groups]
    return {"defaults": [*defaults, "_self_"], **{str(k): v for k, v in tree.items()}}


def _checked(word: str, valid: list[str], groups: dict[str, dict[str, Any]], open_groups: tuple[str, ...]) -> str:
    """One override word, refused early with the nearest names; settings of open groups may be new."""
    match = re.fullmatch(r"([A-Za-z_][\w.]*)=(.*)", word, re.DOTALL)
    if match is None:
        raise UsageError(f"'{word}' is not of the form key=value; valid keys: {', '.join(sorted(valid)[:12])} ...")
    key, value = match.groups()
    if "${" in value:  # OmegaConf would read the environment, and whatever else is registered
        raise UsageError(f"'{word}': interpolation (${{...}}) is not taken; write the value itself")
    head = key.split(".")[0]
    if head in open_groups and "." in key:
        return f"++{word}"
    if key not in valid:
        raise unknown_name("option", key, valid)
    if key in groups and value not in groups[key]:
        raise unknown_name(key, value, groups[key])
    return word


def _first_line(error: Exception) -> str:
    text = str(error)
    missing = re.search(r"Missing mandatory value: (\w+)", text)
    if missing:
        return f"{missing.group(1)} is required: add {missing.group(1)}=..."
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:2]) if lines else type(error).__name__


def build(config: type[Config], settings: dict[str, Any]) -> Config:
    """A dataclass (and its nested dataclasses) from a plain dict, with types checked by the dataclass defaults.

    Raises:
        UsageError: a value of the wrong type, or one that the dataclass refuses.
    """
    known = {f.name: f for f in fields(config)}  # type: ignore[arg-type]
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"unknown option '{key}'; did you mean {' or '.join(nearest(key, known))}?")
        factory = known[key].default_factory
        if isinstance(factory, type) and is_dataclass(factory) and isinstance(value, dict):
            value = build(factory, value)
        values[key] = _typed(key, value, known[key].default)
    try:
        return config(**values)
    except SubgridError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"bad settings: {error}") from error


def _typed(key: str, value: Any, default: Any) -> Any:
    """``value`` as the type of ``default``, where that is a plain scalar."""
    wanted: type | None = type(default) if isinstance(default, (bool, int, float, str)) else None
    if wanted is None or (isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))):
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise UsageError(f"{key}={value!r} must be of type {wanted.__name__}, such as {default!r}")
