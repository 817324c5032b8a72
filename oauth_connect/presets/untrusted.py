"""Checks an entry of PROVIDER_LOADER. It may contain a user's text, so it may say less than the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from oauth_connect.errors import InvalidProvider
from oauth_connect.presets import is_name
from oauth_connect.protocol.provider import ENDPOINTS, NESTED_ENDPOINTS

NAMED = "not allowed in an entry from PROVIDER_LOADER"


def check_preset(named: object) -> None:
    """Raise InvalidProvider unless the preset is given by its name. A path names a file of this machine."""
    if not is_name(named):
        raise InvalidProvider("preset: PROVIDER_LOADER must return a preset's name, not a path or dict")


def check(entry: Mapping[str, Any], preset: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """Raise InvalidProvider with the path of what an entry may not say.

    ``preset``: the preset that the entry names, which is trusted. ``whole``: both, composed.
    """
    _check_printable(entry)
    # A hook is code. Only the settings and presets may name one.
    if whole.get("hooks") != preset.get("hooks"):
        raise InvalidProvider(f"hooks: {NAMED}; name a preset with hooks")
    _check_patterns(whole, preset)
    _check_endpoints(whole, preset)


def _check_printable(entry: Mapping[str, Any]) -> None:
    """Refuse line breaks and the like. They could forge a line in a log, or a header."""
    words = {key: value for key, value in entry.items() if key != "client_secret"}
    for path, text in _texts(words):
        if not text.isprintable():
            raise InvalidProvider(f"{path}: must not contain unprintable characters")


def _texts(document: Any) -> Iterator[tuple[str, str]]:
    """Yield each text in a document with its path: the values, and the names of keys."""
    left = [("", document)]
    while left:
        path, found = left.pop()
        if isinstance(found, str):
            yield path, found
        elif isinstance(found, Mapping):
            yield from ((path or "entry", str(key)) for key in found)
            left += [(f"{path}.{key}".lstrip("."), value) for key, value in found.items()]
        elif isinstance(found, list | tuple):
            left += [(f"{path}[{index}]", value) for index, value in enumerate(found)]
        elif is_dataclass(found):  # the checks of this module would not see what it says
            raise InvalidProvider(f"{path}: expected plain data, not {type(found).__name__}")


def _check_patterns(whole: Mapping[str, Any], preset: Mapping[str, Any]) -> None:
    """Refuse patterns of the entry's own: a regular expression can take minutes to match a short text."""
    trusted = _patterns(preset)
    for environment in _table(preset.get("environments")).values():
        trusted |= _patterns(_table(environment))
    for name, pattern in _patterns(whole):
        if (name, pattern) not in trusted:
            raise InvalidProvider(
                f"variables.{name}.pattern: {NAMED}. Name a preset with this pattern, or list choices"
            )


def _check_endpoints(whole: Mapping[str, Any], preset: Mapping[str, Any]) -> None:
    """Refuse an issuer together with endpoints of the entry's own (RFC 9700 section 4.4, mix-up).

    With an honest server's issuer, its codes would go to another party's token endpoint. The endpoints come
    from the issuer's metadata instead.
    """
    issuer = whole.get("issuer")
    if not issuer:
        return
    trusted = [preset, *map(_table, _table(preset.get("environments")).values())]
    issuer_is_trusted = any(one.get("issuer") == issuer for one in trusted)
    for name, url in _endpoints(whole).items():
        if not (issuer_is_trusted and any(_endpoints(one).get(name) == url for one in trusted)):
            raise InvalidProvider(
                f"{name}: {NAMED} that has an issuer. The issuer's metadata names the endpoints"
            )


def _endpoints(data: Mapping[str, Any]) -> dict[str, Any]:
    nested = {f"{part}.{name}": _table(data.get(part)).get(name) for part, name in NESTED_ENDPOINTS}
    return {name: url for name, url in {**{one: data.get(one) for one in ENDPOINTS}, **nested}.items() if url}


def _patterns(data: Mapping[str, Any]) -> set[tuple[str, str]]:
    variables = _table(data.get("variables")).items()
    return {(str(name), str(one["pattern"])) for name, one in variables if "pattern" in _table(one)}


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
