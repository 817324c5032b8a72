"""Reads a variable's value from what a user typed or pasted: a shop, a tenant, an instance.

Users copy names from the address bar of a browser. The variable's pattern decides which reading fits, so an
entry needs no regular expression for URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.provider import Provider

MAX_TYPED = 2000  # characters
_URL = re.compile(r"(?:(https?)://)?([^?#]*)", re.IGNORECASE)
_DEFAULT_PORTS = {"https": ":443", "http": ":80", "": ""}


def typed_value(provider: Provider, name: str, given: object) -> str:
    """Return a variable's value from a user's text. Raises InvalidProvider.

    The first reading that fits counts, with capitals or in lower case.
    """
    if len(str(given)) > MAX_TYPED:
        raise InvalidProvider(f"{provider.slug}.variables.{name}: longer than {MAX_TYPED} characters")
    for reading in readings(str(given)):
        for text in (reading, reading.lower()):
            with suppress(InvalidProvider):
                return provider.value_of(name, text)
    return provider.value_of(name, given)


def readings(text: str) -> Iterator[str]:
    """Yield the ways to read a text: as it is, then as a URL, with less and less of its path."""
    yield text
    yield (text := text.strip())
    found = _URL.match(text)
    assert found is not None  # noqa: S101  (each text matches)
    scheme, bare = (found[1] or "").lower(), found[2].rstrip("/")
    yield bare
    host, _, path = bare.partition("/")
    if not scheme and "." not in host:
        return  # a name, not a URL: nothing of it may be dropped
    host = host.removesuffix(_DEFAULT_PORTS[scheme]).rstrip(".")
    parts = path.split("/") if path else []
    for count in range(len(parts), -1, -1):
        yield "/".join([host, *parts[:count]])
