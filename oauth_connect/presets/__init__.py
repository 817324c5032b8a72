"""Presets: the data of known providers, in one TOML file per provider, loaded by name.

A site's own preset is a file, a mapping, or an entry point in the group ``oauth_connect.presets``. The entry
point loads a file or a mapping.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.definition import suggestion

GROUP = "oauth_connect.presets"


@cache
def load(name: str) -> Mapping[str, Any] | None:
    """Return a preset's data with the fields of ``Provider``, or None if there is no such preset.

    The presets of this package take precedence over entry points.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        return None
    resource = files(__package__).joinpath(f"{name}.toml")
    if resource.is_file():
        return tomllib.loads(resource.read_text("utf-8"))
    for entry_point in entry_points(group=GROUP, name=name):
        return read(entry_point.load())
    return None


def missing(preset: object) -> str:
    """Return the message for a preset that ``read`` did not find, with a suggestion."""
    if not _is_file(preset):
        return f"there is no preset {preset!r}{nearest(preset) if isinstance(preset, str) else ''}"
    path = Path(str(preset))
    where = "" if path.is_absolute() else f" (searched in {Path.cwd()})"
    return f"there is no file {path}{where}"


def nearest(name: str) -> str:
    """Return the end of a message that suggests a preset with a similar name, also from entry points."""
    return suggestion(name, [*names(), *(found.name for found in entry_points(group=GROUP))])


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
    if isinstance(preset, Mapping):
        return preset
    if _is_file(preset):
        try:
            return tomllib.loads(Path(str(preset)).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidProvider(f"preset: {preset} cannot be read ({type(error).__name__})") from None
        except ValueError as error:
            raise InvalidProvider(f"preset: {preset} is not TOML ({error})") from None
    return load(preset) if isinstance(preset, str) else None


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
