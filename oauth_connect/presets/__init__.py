"""Presets: the data of known providers, in one TOML file per provider, loaded by name.

A site's own preset is a file, a mapping, or an entry point in the group ``oauth_connect.presets``. The entry
point loads a file or a mapping.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

from oauth_connect.errors import InvalidProvider
from oauth_connect.presets.about import About
from oauth_connect.protocol.definition import suggestion

GROUP = "oauth_connect.presets"
ABOUT = "about"


def load(name: str) -> Mapping[str, Any] | None:
    """Return a preset's data with the fields of ``Provider``, or None if there is no such preset.

    The presets of this package take precedence over entry points.
    """
    return _without_about(_load(name))


def about(preset: object) -> About | None:
    """Return what a preset says about its provider, or None. Takes what ``read`` takes.

    Raises InvalidProvider if it is not valid.
    """
    whole = read_whole(preset)
    facts = None if whole is None else whole.get(ABOUT)
    if facts is None:
        return None
    if not isinstance(facts, Mapping):
        raise InvalidProvider(f"about: expected a table, not {type(facts).__name__}")
    return About.from_mapping("preset", facts)


def read_whole(preset: object) -> Mapping[str, Any] | None:
    """Return a preset as ``read`` does, together with its table ``about``."""
    if isinstance(preset, Mapping):
        return preset
    if _is_file(preset):
        return _read_file(Path(str(preset)))
    return _load(preset) if isinstance(preset, str) else None


@cache
def _load(name: str) -> Mapping[str, Any] | None:
    if not name.replace("-", "").replace("_", "").isalnum():
        return None
    resource = files(__package__).joinpath(f"{name}.toml")
    if resource.is_file():
        return tomllib.loads(resource.read_text("utf-8"))
    for entry_point in entry_points(group=GROUP, name=name):
        return _load_entry_point(entry_point)
    return None


def _load_entry_point(entry_point: EntryPoint) -> Mapping[str, Any] | None:
    try:
        return read_whole(entry_point.load())
    except InvalidProvider:
        raise
    except Exception as error:  # another package's code
        raise InvalidProvider(
            f"preset: the entry point {entry_point.name!r} ({entry_point.value}) cannot be loaded "
            f"({type(error).__name__}: {error})"
        ) from None


def _without_about(whole: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return whole and {name: value for name, value in whole.items() if name != ABOUT}


def missing(preset: object) -> str:
    """Return the message for a preset that ``read`` did not find, with a suggestion."""
    if not _is_file(preset):
        return f"there is no preset {preset!r}{nearest(preset) if isinstance(preset, str) else ''}"
    path = Path(str(preset))
    where = "" if path.is_absolute() else f" (searched in {Path.cwd()})"
    return f"there is no file {path}{where}"


def nearest(name: str) -> str:
    """Return the end of a message that suggests a preset with a similar name, also from entry points."""
    return suggestion(name, [*names(), *installed()])


def overlooked(slug: str, data: Mapping[str, Any]) -> str:
    """Return the end of a message for an entry without endpoints whose name is similar to a preset's name."""
    if data.get("token_endpoint") or data.get("issuer") or load(slug) is not None:
        return ""
    suggested = nearest(slug)
    return f" (there is no preset of this name{suggested})" if suggested else ""


def is_name(preset: object) -> bool:
    """Return whether a preset is given by its name, and not as a file or a mapping."""
    return isinstance(preset, str) and not preset.endswith(".toml")


def read(preset: object) -> Mapping[str, Any] | None:
    """Return the data of a preset given as a name, a file (a path that ends in .toml) or a mapping."""
    return _without_about(read_whole(preset))


def _read_file(path: Path) -> Mapping[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidProvider(f"preset: {path} cannot be read ({type(error).__name__})") from None
    except (ValueError, RecursionError) as error:
        raise InvalidProvider(f"preset: {path} is not TOML ({error})") from None


def compose(preset: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provider's data. The chosen environment overrides the preset, and the entry overrides both.

    Raises InvalidProvider for an unknown environment.
    """
    preset, entry = _tables(preset), _tables(entry)
    merged = merge(preset, entry)
    chosen = merged.get("environment")
    if not chosen:
        return merged
    environments = merged.get("environments")
    if not isinstance(environments, Mapping):
        environments = {}
    override = environments.get(chosen) if isinstance(chosen, str) else None
    if not isinstance(override, Mapping):
        available = ", ".join(map(repr, environments)) or "none"
        raise InvalidProvider(f"environment: there is no {chosen!r} (available: {available})")
    return merge(merge(preset, _tables(override)), {**entry, "environments": environments})


def names() -> tuple[str, ...]:
    """Return the names of all presets, in alphabetical order."""
    found = (resource.name for resource in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def installed() -> tuple[str, ...]:
    """Return the names of the presets that other installed packages have, in alphabetical order."""
    return tuple(sorted({found.name for found in entry_points(group=GROUP)} - {*names()}))


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables by key and replace all other values."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        both_tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both_tables else value  # type: ignore[arg-type]
    return merged


def _is_file(preset: object) -> bool:
    return isinstance(preset, Path) or (isinstance(preset, str) and preset.endswith(".toml"))


def _tables(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Expand ``tenant = "acme"`` to a variable with this value from the settings, so no user enters it."""
    variables = data.get("variables")
    if not isinstance(variables, Mapping):
        return data
    expanded = {
        name: {"source": "config", "default": value} if isinstance(value, str) else value
        for name, value in variables.items()
    }
    return {**data, "variables": expanded}
