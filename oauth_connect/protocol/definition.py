"""Build a frozen dataclass from a plain mapping. Errors name the path of the wrong value.

The dataclass is the schema, so settings, preset files and code stay consistent.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pkgutil import resolve_name
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from oauth_connect.errors import InvalidProvider

UNSET = "Is its environment variable set here?"  # often the reason why a value is None or empty
MAX_SHOWN = 200  # characters of a wrong value
CLOSE = 0.65  # of difflib's ratio: at its default of 0.6, "mine" and "linear" are similar
# Words of other packages and of providers' pages, and the RFC's word for the same.
RFC_WORDS = {
    **dict.fromkeys(("authorize_url", "authorization_url", "auth_url", "auth_uri"), "authorization_endpoint"),
    **dict.fromkeys(("token_url", "token_uri", "access_token_url"), "token_endpoint"),
    **dict.fromkeys(("userinfo_url", "user_info_url", "profile_url"), "userinfo_endpoint"),
    **dict.fromkeys(("revoke_url", "revoke_token_url", "revocation_url"), "revocation_endpoint"),
    **dict.fromkeys(("server_metadata_url", "discovery_url", "server_url"), "issuer"),
    **dict.fromkeys(("app_id", "consumer_key", "key"), "client_id"),
    **dict.fromkeys(("app_secret", "consumer_secret", "secret"), "client_secret"),
}


def build(cls: Any, data: Mapping[str, Any], path: str) -> Any:
    """Return ``cls(**data)`` with every nested value converted to the type its field declares.

    Raises InvalidProvider with a message that begins with the dotted path.
    """
    types_of = _field_types(cls)
    for key in data:
        if key not in types_of:
            raise InvalidProvider(f"{path}.{key}: unknown key{suggestion(str(key), types_of)}")
    for key in _required(cls):
        if key not in data:
            raise InvalidProvider(f"{path}.{key}: missing{_choices_of(types_of[key])}")
    values = {key: convert(types_of[key], value, f"{path}.{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except InvalidProvider as error:
        raise InvalidProvider(f"{path}.{error}") from None


def convert(declared: Any, value: Any, path: str) -> Any:
    """Return ``value`` as the declared type, or raise InvalidProvider."""
    if declared is Any:
        return value
    if is_dataclass(declared) and isinstance(declared, type):
        return _nested(declared, value, path)
    origin = get_origin(declared)
    if origin in (Union, types.UnionType):
        return _optional(declared, value, path)
    converter = _CONVERTERS.get(origin or declared)
    if converter is None:
        raise TypeError(f"{path}: a field of type {declared} cannot be given as data")
    return converter(get_args(declared), value, path)


@cache
def _field_types(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


@cache
def _required(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)


def _choices_of(declared: Any) -> str:
    """Return the end of a message that lists what a field can be, or "" if it can be anything."""
    is_choice = get_origin(declared) is Literal
    return f"; expected one of {_named(get_args(declared))}" if is_choice else ""


def _named(choices: tuple[Any, ...]) -> str:
    return ", ".join(repr(choice) for choice in choices)


def suggestion(key: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests a similar known name, or "" if there is none."""
    names = list(known)
    by_folded = {name.casefold(): name for name in names}
    folded = key.casefold()
    close = [RFC_WORDS[folded]] if RFC_WORDS.get(folded) in names else []
    similar = difflib.get_close_matches(folded, by_folded, n=1, cutoff=CLOSE)
    close = close or [by_folded[one] for one in similar]
    return f"; did you mean {close[0]!r}?" if close else ""


def _nested(declared: type, value: Any, path: str) -> Any:
    if isinstance(value, declared):
        return value
    return build(declared, _mapping(value, path), path)


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidProvider(f"{path}: expected a table, not {type(value).__name__}")
    return value


def _optional(declared: Any, value: Any, path: str) -> Any:
    if value is None:
        return None
    inner = next(argument for argument in get_args(declared) if argument is not type(None))
    return convert(inner, value, path)


def _string(_: Any, value: Any, path: str) -> str:
    if value is None:
        raise InvalidProvider(f"{path}: expected a string, not None. {UNSET}")
    if not isinstance(value, str):
        raise InvalidProvider(f"{path}: expected a string, not {type(value).__name__}")
    return str(value)


def _boolean(_: Any, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidProvider(f"{path}: expected true or false, not {_shown(value)}")
    return value


def _integer(_: Any, value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidProvider(f"{path}: expected a whole number, not {_shown(value)}")
    return value


def _choice(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    if value not in choices:
        raise InvalidProvider(f"{path}: expected one of {_named(choices)}, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """Return a value for a message, shortened. Python does not write a number with thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return type(value).__name__
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _list(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidProvider(f"{path}: expected a list, not {type(value).__name__}")
    return tuple(convert(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))


def _table(arguments: tuple[Any, ...], value: Any, path: str) -> Mapping[str, Any]:
    table = _mapping(value, path)
    return {str(key): convert(arguments[1], item, f"{path}.{key}") for key, item in table.items()}


_CONVERTERS: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    str: _string,
    bool: _boolean,
    int: _integer,
    Literal: _choice,
    tuple: _list,
    Mapping: _table,
}


def function_at(hook: Any, path: str) -> Callable[..., Any]:
    """Return the function that a hook names. Raises InvalidProvider, whose message begins with ``path``."""
    try:
        found = resolve_name(hook) if isinstance(hook, str) else hook
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidProvider(f"{path}: {hook!r} cannot be imported ({error})") from None
    if not callable(found):
        raise InvalidProvider(f"{path}: {hook!r} is not a function")
    return found  # type: ignore[no-any-return]
