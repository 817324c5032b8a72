"""Presets: what is known of a provider, as data, one TOML file each, read by name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> Mapping[str, Any] | None:
    """Return a preset's data, the shape of ``Provider``; None where there is no such preset."""
    if not name.replace("-", "").replace("_", "").isalnum():
        return None
    resource = files(__package__).joinpath(f"{name}.toml")
    return tomllib.loads(resource.read_text("utf-8")) if resource.is_file() else None


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
