"""Presets: what is known of a provider, as data, one TOML file each, read by name.

A site's own preset is a file, a mapping, or an entry point in the group ``oauth_connect.presets``,
which leads to one of the two.
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
    """Return a preset's data, the shape of ``Provider``; None where there is no such preset.

    The presets of this package come before those of entry points.
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
    """Say what is not there, where ``read`` found nothing, and what may be meant."""
    if not _is_file(preset):
        return f"there is no preset {preset!r}{nearest(preset) if isinstance(preset, str) else ''}"
    path = Path(str(preset))
    where = "" if path.is_absolute() else f" (looked for in {Path.cwd()})"
    return f"there is no file {path}{where}"


def nearest(name: str) -> str:
    """Return the end of a message: which preset may be meant, those of entry points too."""
    return suggestion(name, [*names(), *(found.name for found in entry_points(group=GROUP))])


def overlooked(slug: str, data: Mapping[str, Any]) -> str:
    """Return the end of a message on an entry that leads nowhere, where its name is nearly a preset's."""
    if data.get("token_endpoint") or data.get("issuer") or load(slug) is not None:
        return ""
    near = nearest(slug)
    return f" (there is no preset of this name{near})" if near else ""


def is_name(preset: object) -> bool:
    """Tell whether a preset is given by its name, and not as a file or a mapping."""
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
    """Put a provider's data together: the preset, over it the chosen environment, over it the entry.

    Raises InvalidProvider for an environment that there is not.
    """
    preset, entry = _tables(preset), _tables(entry)
    whole = merge(preset, entry)
    chosen = whole.get("environment")
    if not chosen:
        return whole
    known = whole.get("environments")
    override = known.get(chosen) if isinstance(known, Mapping) and isinstance(chosen, str) else None
    if not isinstance(override, Mapping):
        named = ", ".join(map(repr, known)) if isinstance(known, Mapping) and known else "none"
        raise InvalidProvider(f"environment: there is no {chosen!r} (there: {named})")
    return merge(merge(preset, _tables(override)), {**entry, "environments": known})


def names() -> tuple[str, ...]:
    """Return the names of all presets, in alphabetical order."""
    found = (resource.name for resource in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables by key, replace everything else."""
    merged = dict(base)
    for key, value in override.items():
        known = merged.get(key)
        both_tables = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(known, value) if both_tables else value  # type: ignore[arg-type]
    return merged


def _is_file(preset: object) -> bool:
    return isinstance(preset, Path) or (isinstance(preset, str) and preset.endswith(".toml"))


def _tables(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Spell out ``tenant = "acme"``: the settings say the variable's value, and nobody is asked."""
    variables = data.get("variables")
    if not isinstance(variables, Mapping):
        return data
    spelt = {
        name: {"source": "config", "default": value} if isinstance(value, str) else value
        for name, value in variables.items()
    }
    return {**data, "variables": spelt}
