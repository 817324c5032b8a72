"""Dotted paths into a provider's documents. A number is a key of an object, or the index of a list.

A key that has dots itself, such as a claim whose name is a URL, is a path of its own at the top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from oauth_connect.errors import InvalidProvider

MAX_DEPTH = 5
MAX_SHOWN = 20
MAX_EXACT = 2**53  # a float of this size may stand for several whole numbers
_INDEX = re.compile("0|[1-9][0-9]{0,8}")
# Only keys that look like names are shown. A user's data may be a key, too.
_NAME = re.compile(r"[A-Za-z_$@][A-Za-z0-9_$@:-]{0,31}")


def inside(document: Any, keys: Iterable[str]) -> Any:
    """Return the value to which the keys lead, or None."""
    for key in keys:
        if isinstance(document, Mapping):
            document = document.get(key)
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return document


def at(document: Any, path: str) -> Any:
    """Return the value at a dotted path, or None."""
    if isinstance(document, Mapping) and path in document:
        return document[path]
    return inside(document, path.split("."))


def pick(document: Any, paths: Iterable[str]) -> str:
    """Return the value at the first path that holds a string or a whole number, else "".

    Parts joined by ``+`` form one path. All its parts must have a value, and ``:`` joins the values.
    """
    for path in paths:
        parts = [_text(at(document, part)) for part in path.split("+")]
        if all(parts):
            return ":".join(parts)
    return ""


def _text(found: Any) -> str:
    if isinstance(found, float) and found.is_integer() and abs(found) < MAX_EXACT:
        found = int(found)  # some servers write 5.0 for 5
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


def check_paths(field: str, paths: Iterable[str]) -> None:
    """Raise InvalidProvider for a path that can lead to no value, because one of its keys is empty."""
    for path in paths:
        if not all(key.strip() for part in path.split("+") for key in part.split(".")):
            raise InvalidProvider(
                f"{field}: {path!r} has an empty key; write keys with dots between them, such as data.0.id"
            )


def check_keys(field: str, keys: Iterable[str]) -> None:
    """Raise InvalidProvider for a list of keys of which one is empty."""
    if not all(key.strip() for key in keys):
        raise InvalidProvider(f"{field}: has an empty key; without a path, the whole document is read")


def outline(document: Any) -> str:
    """Return the paths that a document has, for a message. Never a value."""
    found = list(dict.fromkeys(_paths(document, (), MAX_DEPTH)))
    more = ["..."] if len(found) > MAX_SHOWN else []
    return ", ".join([*found[:MAX_SHOWN], *more]) or "none"


def _paths(document: Any, above: tuple[str, ...], depth: int) -> Iterator[str]:
    if isinstance(document, Mapping) and document and depth:
        named = ((key, value) for key, value in document.items() if _NAME.fullmatch(str(key)))
        for key, value in named:
            yield from _paths(value, (*above, str(key)), depth - 1)
    elif isinstance(document, list) and document and depth:
        yield from _paths(document[0], (*above, "0"), depth - 1)
    elif above:
        yield ".".join(above)
