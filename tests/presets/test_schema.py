"""The published schema matches the dataclasses. ``python -m tests.presets.test_schema`` writes it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oauth_connect import presets
from oauth_connect.presets.schema import preset_schema

FOLDER = Path(presets.__file__).parent
PUBLISHED = FOLDER / "schema.json"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


def text() -> str:
    return json.dumps(preset_schema(), indent=2) + "\n"


def test_the_published_schema_is_the_dataclasses() -> None:
    assert PUBLISHED.read_text("utf-8") == text()


def test_no_preset_can_hold_a_client() -> None:
    assert not {"client_id", "client_secret", "slug"} & set(preset_schema()["properties"])


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_fits_the_schema(name: str) -> None:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    assert list(problems(preset_schema(), data, name)) == []


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"colour": "red"}, "x.colour"),
        ({"authorize": {"params": {"a": 1}}}, "x.authorize.params.a"),
        ({"refresh": {"rotation": "daily"}}, "x.refresh.rotation"),
        ({"environments": {"sandbox": {"refresh": {"grace": 1}}}}, "x.environments.sandbox.refresh.grace"),
        ({"scopes": "a"}, "x.scopes"),
    ],
)
def test_what_does_not_fit_the_schema_is_found(data: dict[str, Any], path: str) -> None:
    assert list(problems(preset_schema(), data, "x")) == [path]


KINDS = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def problems(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Yield the paths that do not fit. Knows only the keywords of JSON Schema that the schema uses."""
    if "$ref" in schema:
        schema = preset_schema()
    if "anyOf" in schema:
        if all(list(problems(one, value, path)) for one in schema["anyOf"]):
            yield path
    elif "enum" in schema:
        if value not in schema["enum"]:
            yield path
    elif not isinstance(value, KINDS[schema["type"]]):
        yield path
    else:
        yield from inner_problems(schema, value, path)


def inner_problems(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from problems(schema["items"], item, path)
    if isinstance(value, dict):
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema["additionalProperties"])
            yield from problems(inner, item, f"{path}.{key}") if inner else [f"{path}.{key}"]


if __name__ == "__main__":
    PUBLISHED.write_text(text(), encoding="utf-8")
