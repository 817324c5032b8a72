"""The JSON Schema of a preset file, generated from the dataclasses. Editors use it to complete and check."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from oauth_connect.presets import ABOUT
from oauth_connect.presets.about import About
from oauth_connect.protocol.provider import Provider

DRAFT = "https://json-schema.org/draft/2020-12/schema"
# Fields that only a site's settings contain.
NOT_IN_PRESETS = frozenset({"slug", "client_id", "client_secret", "environment"})
_PLAIN = {str: "string", bool: "boolean", int: "integer"}


def preset_schema() -> dict[str, Any]:
    """Return the schema with all fields of Provider that a preset may have."""
    schema = _object(Provider, NOT_IN_PRESETS)
    schema["properties"][ABOUT] = _object(About)
    schema["properties"]["environments"] = {"type": "object", "additionalProperties": {"$ref": "#"}}
    # In an environment, a string is a variable's value.
    variable = schema["properties"]["variables"]["additionalProperties"]
    schema["properties"]["variables"]["additionalProperties"] = {"anyOf": [{"type": "string"}, variable]}
    return {"$schema": DRAFT, "title": "A provider's preset for oauth_connect", **schema}


def _object(cls: Any, excluded: frozenset[str] = frozenset()) -> dict[str, Any]:
    hints = get_type_hints(cls)
    properties = {}
    for field in fields(cls):
        if field.name in excluded:
            continue
        schema = _schema_of(hints[field.name])
        default = field.default
        if default is not MISSING and isinstance(default, str | bool | int) and default != "":
            schema["default"] = default
        properties[field.name] = schema
    summary = " ".join((cls.__doc__ or "").partition("\n\n")[0].split())
    return {
        "type": "object",
        "description": summary,
        "properties": properties,
        "additionalProperties": False,
    }


def _schema_of(declared: Any) -> dict[str, Any]:
    if is_dataclass(declared):
        return _object(declared)
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return _schema_of(next(one for one in arguments if one is not type(None)))
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    return {"type": _PLAIN[declared]} if declared in _PLAIN else {"type": "string"}
