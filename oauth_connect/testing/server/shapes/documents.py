"""Builds documents from dotted paths, as ``protocol.paths`` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def document_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with each value at its dotted path. A list is still an object whose keys are numbers.

    A path through a value that is there already is left out: the client does not need both.
    """
    built: dict[str, Any] = {}
    for path, value in fields.items():
        put(built, path.split("."), value)
    return built


def put(document: dict[str, Any], keys: Iterable[str], value: Any) -> None:
    """Set the value at the end of the keys, if nothing is there."""
    *above, last = keys
    inner: Any = document
    for key in above:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            return
    inner.setdefault(last, value)


def with_lists(document: Any) -> Any:
    """Return the document with a list for each object whose keys are 0, 1 and so on."""
    if not isinstance(document, Mapping):
        return document
    inner = {key: with_lists(value) for key, value in document.items()}
    if inner and set(inner) == {str(index) for index in range(len(inner))}:
        return [inner[str(index)] for index in range(len(inner))]
    return inner
