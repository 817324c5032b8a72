"""Reads the bodies of responses: JSON, and forms. No I/O."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl


class Body(dict[str, Any]):
    """A response body. Its ``repr`` shows only names, because values may be secrets."""

    def __repr__(self) -> str:
        return f"<Body {', '.join(map(str, self))}>"


class BodyList(list[Any]):
    """A response body that is a list. Its ``repr`` shows no value."""

    def __repr__(self) -> str:
        return f"<BodyList of {len(self)}>"


def read_body(content_type: str, body: bytes) -> Body | None:
    """Parse a body as ``read_document`` does. Return None if it is not an object."""
    document = read_document(content_type, body)
    return document if isinstance(document, Body) else None


def read_document(content_type: str, body: bytes) -> Any:
    """Parse a JSON object or list with any content type, and a form by its content type.

    Some servers send JSON as text/plain, as text/html or as a form, and a token in it must not be lost. Other
    JSON values count only if the content type is JSON, because any text may begin with a number. A JWT is
    returned as its text. Return None otherwise.
    """
    kind = media_type(content_type)
    parsed = _json(body)
    if isinstance(parsed, dict):
        return Body(parsed)
    if isinstance(parsed, list):
        return BodyList(parsed)
    if kind == "application/x-www-form-urlencoded":
        return Body(parse_qsl(body.decode("utf-8-sig", "replace").strip())) or None
    if kind == "application/jwt":
        return body.decode("ascii", "replace").strip()
    return parsed if is_json(content_type) else None


def media_type(content_type: str) -> str:
    """Return the media type of a Content-Type, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    kind = media_type(content_type)
    return kind == "application/json" or kind.endswith("+json")


def _json(body: bytes) -> Any:
    """Parse JSON, also if a text in it has a line break or is not in UTF-8. Return None if it is none.

    Tokens are ASCII. They must not be lost because of a name in another field.
    """
    try:
        try:
            text = body.decode(json.detect_encoding(body), "surrogatepass")
        except UnicodeDecodeError:
            text = body.decode("latin-1")
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _whole_number(digits: str) -> int | float:
    """Return a number of JSON. Python refuses one of thousands of digits, and the token must not be lost."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


# Made once, because json.loads would make one for each response.
_DECODER = json.JSONDecoder(strict=False, parse_int=_whole_number)
