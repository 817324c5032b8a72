"""The JSON Schema of a preset file, made from the dataclasses: editors complete and check with it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from oauth_connect.protocol.provider import Provider

DRAFT = "https://json-schema.org/draft/2020-12/schema"
# What the site says in its settings, or Python only.
NOT_IN_PRESETS = frozenset({"slug", "client_id", "client_secret", "environment"})
_PLAIN = {str: "string", bool: "boolean", int: "integer"}


def preset_schema() -> dict[str, Any]:
    """Return the schema: the fields of Provider that a preset may have, and no others."""
    whole = _object(Provider, NOT_IN_PRESETS)
    whole["properties"]["environments"] = {"type": "object", "additionalProperties": {"$ref": "#"}}
    # In an environment a variable may be just its value.
    variable = whole["properties"]["variables"]["additionalProperties"]
    whole["properties"]["variables"]["additionalProperties"] = {"anyOf": [{"type": "string"}, variable]}
    return {"$schema": DRAFT, "title": "A provider's preset for oauth_connect", **whole}


def _object(cls: Any, left_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    hints = get_type_hints(cls)
    properties = {}
    for one in fields(cls):
        if one.name in left_out:
            continue
        described = _described(hints[one.name])
        if one.default is not MISSING and isinstance(one.default, str | bool | int) and one.default != "":
            described["default"] = one.default
        properties[one.name] = described
    summary = " ".join((cls.__doc__ or "").partition("\n\n")[0].split())
    return {
        "type": "object",
        "description": summary,
        "properties": properties,
        "additionalProperties": False,
    }


def _described(declared: Any) -> dict[str, Any]:
    if is_dataclass(declared):
        return _object(declared)
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return _described(next(one for one in arguments if one is not type(None)))
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _described(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _described(arguments[1])}
    return {"type": _PLAIN[declared]} if declared in _PLAIN else {"type": "string"}
