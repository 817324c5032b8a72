"""Masks tokens and other secrets in log records, also in those of libraries.

This module does not know the tokens. It finds secrets by their names (RFC 6749 and related RFCs) in
form-encoded text, URLs, JSON, Python's ``repr`` and headers. It is a second line of defence: this package's
own records contain no secret.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from oauth_connect.tracebacks import forget_locals, without_locals

MASK = "[masked]"
SHORTEST_VALUE = 8  # characters of a value that ``without_values`` masks
WITHHELD = "[withheld: this record could not be searched for secrets]"
ARGUMENTS_WITHHELD = "[arguments withheld: they do not fit the message]"

OURS = (
    "oauth_connect",
    "oauth_connect.admin",
    "oauth_connect.issuers",
    "oauth_connect.stores",
    "oauth_connect.views",
)
LIBRARIES = ("oauthlib", "requests_oauthlib", "requests", "urllib3")

# A key that has, or ends in, one of these names (client_secret, refreshToken) has a secret as its value.
_SURE = (
    r"token|secret|password|assertion|verifier|appsecret_proof|(?:device|user|auth|authorization)[_-]?code"
)
# These two are common words. Only a whole key with this name has a secret, also in a nested URL.
_COMMON = r"(?:(?<![\w-])|(?<=%26)|(?<=%3F))(?:code|state)"
_HEADERS = r"authorization|cookie"
_KEY = rf"(?:{_SURE}|{_HEADERS}|{_COMMON})"
_FLAGS = re.IGNORECASE | re.DOTALL

# Every repetition is possessive or can match in one way only. So the time is linear in the text's length.
_QUOTED = re.compile(
    rf"""({_KEY}\\{{0,8}}["']?\s*+(?:[:=]|%3D)\s*+[\[(]?[br]{{0,2}})
    (?: (")(?:[^"\\]|\\.)++ | (')(?:[^'\\]|\\.)++ | (\\{{1,8}}["'])(?:(?!(?<!\\)\4).)++ )""",
    _FLAGS | re.VERBOSE,
)
# Pairs: ("code", "...") in a list of parameters, auth=("client", "...") as requests takes it.
_PAIR = re.compile(
    rf"""(\([br]?["'][\w-]{{0,60}}?{_KEY}["'],\s*+[br]?|\bauth["']?\s*+[:=]\s*+[\[(][^"'()]{{0,3}}["'][^"']{{0,500}}["'],\s*+)
    (?: (")(?:[^"\\]|\\.)++ | (')(?:[^'\\]|\\.)++ )""",
    _FLAGS | re.VERBOSE,
)
_FORM = re.compile(rf"""({_KEY}(?:=|%3D))[^&\s"'\\]++""", _FLAGS)
_LINE = re.compile(
    rf"""((?:{_HEADERS})\s*+:\s*+)[^\r\n"'\\]++"""
    r"""|((?:(?:[_-]|access|refresh|id)token|(?:[_-]|client)secret|password|assertion|verifier|device_?code)"""
    r"""[ ]?:[ ]?)[^\s"'\\,;&]++""",
    _FLAGS,
)
_SCHEME = re.compile(
    r"((?<![\w-])(?:Bearer|Basic|DPoP)(?:\s++|%20))(?!(?:realm|error|scope)\b|(?:to|tokens?)[\s,])[\w.~+/-]++=*+",
    _FLAGS,
)
# "Re-using previously supplied state 1a2B...": an opaque value after its name.
_PROSE = re.compile(
    r"((?:[Ss]tate|[Tt]oken|[Cc]ode|[Ss]ecret)\s++)(?=[a-z_.~+/=-]*+[A-Z0-9])[\w.~+/=-]{16,}+"
)
_USERINFO = re.compile(r"""(://[^\s/:@"']{0,200}+:)[^\s/@"']{1,400}+(?=@)""")

_NAMES: tuple[str, ...] = (
    "token",
    "secret",
    "code",
    "state",
    "password",
    "assertion",
    "verifier",
    "appsecret_proof",
)
_NAMES += ("authorization", "cookie")
# A pattern runs only if the text contains one of the first words and one of the second.
_PATTERNS: tuple[tuple[tuple[str, ...], tuple[str, ...], re.Pattern[str]], ...] = (
    (_NAMES, ('"', "'"), _QUOTED),
    ((*_NAMES, "auth"), ("(", "["), _PAIR),
    (_NAMES, ("=", "%3d"), _FORM),
    (_NAMES, (":",), _LINE),
    (("bearer", "basic", "dpop"), ("",), _SCHEME),
    (("state", "token", "code", "secret"), ("",), _PROSE),
    (("://",), ("@",), _USERINFO),
)

_ANY_NAME = re.compile("|".join({name for names, _, _ in _PATTERNS for name in names}), re.IGNORECASE)
_SECRET_KEY = re.compile(rf"(?:.*(?:{_SURE}|{_HEADERS})|code|state)", _FLAGS)
_SURE_KEY = re.compile(rf".*(?:{_SURE}|{_HEADERS})", _FLAGS)
_MAX_DEPTH = 8
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"taskName"}
_HTTP_CODE = re.compile(r"http_\d{3}")
# RFC 6749, sections 4.1.2.1 and 5.2. The module of error codes adds this package's own.
_codes: set[str] = {
    *("invalid_request", "invalid_client", "invalid_grant", "invalid_scope"),
    *("unauthorized_client", "unsupported_grant_type", "unsupported_response_type"),
    *("access_denied", "server_error", "temporarily_unavailable"),
}
# The words after "client_secret:" and "bearer" in this package's own messages. No secret is such a word.
_OWN_WORDS = frozenset({"missing", "expected", "unknown", "the", "tokens", "private_key"})


def never_mask(codes: Iterable[str]) -> None:
    """Register error codes that are never masked. Otherwise a provider called "my-token" hides its errors."""
    _codes.update(codes)


def _is_code(value: str) -> bool:
    return value in _codes or bool(_HTTP_CODE.fullmatch(value))


def _is_readable(value: str) -> bool:
    return _is_code(value) or value in _OWN_WORDS


@lru_cache(maxsize=512)
def _is_secret(name: str) -> bool:
    return bool(_SECRET_KEY.fullmatch(name)) or name == "auth"


@lru_cache(maxsize=512)
def _is_surely_secret(name: str) -> bool:
    return bool(_SURE_KEY.fullmatch(name))


_hidden: ContextVar[str] = ContextVar("oauth_connect_hidden", default="")


@contextmanager
def hidden(text: str) -> Iterator[None]:
    """Mask this text in all records within the context, whatever names it contains."""
    before = _hidden.set(text)
    try:
        yield
    finally:
        _hidden.reset(before)


def redacted(text: str) -> str:
    """Return a text with its secrets masked, or the same text if it contains none."""
    if whole := _hidden.get():
        text = text.replace(whole, MASK)
    if not _ANY_NAME.search(text):
        return text
    lowered = text.lower()
    for names, marks, pattern in _PATTERNS:
        if any(name in lowered for name in names) and any(mark in lowered for mark in marks):
            text = pattern.sub(_masked, text)
    return text


@without_locals
def without_values(text: str, values: Iterable[str]) -> str:
    """Return a text with these values masked, also percent-encoded ones. The short ones may be words."""
    for value in values:
        if len(value) >= SHORTEST_VALUE:
            text = text.replace(value, MASK).replace(quote(value, safe=""), MASK)
    return text


def _masked(match: re.Match[str]) -> str:
    """Keep the key and the opening quote, and mask the value."""
    key = "".join(group for group in match.groups() if group)
    return match[0] if _is_readable(match[0].removeprefix(key).rstrip(".)]}")) else key + MASK


def redacted_value(value: Any) -> Any:
    """Return a copy of a value with its secrets masked at any depth, or the same object if it has none."""
    return _Search().value(value)


class _Search:
    """One walk through a value. It remembers the containers around it, so that it stops at a cycle."""

    def __init__(self) -> None:
        self.inside: list[int] = []

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return _same_or(value, redacted(value))
        if isinstance(value, bytes | bytearray):
            text = value.decode("latin-1")
            masked = redacted(text)
            return value if masked == text else masked.encode("latin-1")
        if isinstance(value, BaseException):
            text = f"{value}"
            return _same_or(value, redacted(text), text)
        return self._container(value)

    def _container(self, value: Any) -> Any:
        search: Callable[[Any], Any] | None = None
        if isinstance(value, Mapping):
            search = self._mapping
        elif isinstance(value, list | tuple | set | frozenset):
            search = self._sequence
        if search is None:
            return value
        if id(value) in self.inside or len(self.inside) >= _MAX_DEPTH:
            return redacted(repr(value))
        self.inside.append(id(value))
        try:
            return search(value)
        finally:
            self.inside.pop()

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        masked = {key: self._named(key, item) for key, item in value.items()}
        return value if all(masked[key] is item for key, item in value.items()) else masked

    def _sequence(self, value: Any) -> Any:
        items = list(value)
        if isinstance(value, tuple) and len(items) == 2:
            masked = [self.value(items[0]), self._named(items[0], items[1])]
        else:
            masked = [self.value(item) for item in items]
        if all(before is after for before, after in zip(items, masked, strict=True)):
            return value
        return next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))(masked)

    def _named(self, key: object, item: Any) -> Any:
        name = key.decode("latin-1") if isinstance(key, bytes) else key
        if isinstance(name, str) and _is_secret(name):
            return _all_masked(item)
        return self.value(item)


def _all_masked(item: Any) -> Any:
    """Mask a value whose key names a secret. Numbers and None stay."""
    if isinstance(item, str | bytes | bytearray):
        return MASK if item and not (isinstance(item, str) and _is_code(item)) else item
    if isinstance(item, list | tuple):
        return [_all_masked(element) for element in item]
    return redacted_value(item)


def _same_or(value: Any, masked: str, text: str | None = None) -> Any:
    return value if masked == (value if text is None else text) else masked


class RedactingFilter(logging.Filter):
    """Masks secrets in a record: message, arguments, traceback, stack and ``extra``. Lets every record pass.

    Raises nothing. It replaces a record that it cannot search by a placeholder. It does not change the
    objects that the caller passed to the logger: the record gets copies.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            _redact(record)
        except Exception:
            record.msg, record.args = WITHHELD, ()
            record.exc_info = record.exc_text = record.stack_info = None
            for name in vars(record).keys() - _STANDARD:
                delattr(record, name)
        return True


def _redact(record: logging.LogRecord) -> None:
    _redact_message(record)
    _redact_traceback(record)
    if record.stack_info:
        record.stack_info = redacted(record.stack_info)
    for name in vars(record).keys() - _STANDARD:
        value = getattr(record, name)
        masked = _all_masked(value) if _is_surely_secret(name) else redacted_value(value)
        if masked is not value:
            setattr(record, name, masked)


def _redact_message(record: logging.LogRecord) -> None:
    """Mask the arguments, then the whole message: it may name the key of an argument's value."""
    if record.args:
        record.args = redacted_value(record.args)
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        record.msg, record.args = f"{redacted(str(record.msg))} {ARGUMENTS_WITHHELD}".replace("%", "%%"), ()
        return
    masked = redacted(message)
    if masked != message:
        record.msg, record.args = masked, ()


def _redact_traceback(record: logging.LogRecord) -> None:
    """Replace the traceback by masked text if a message in it contains a secret. Source lines have none.

    Reporters take a traceback with its locals from a record. Those of this package carry none.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and record.name.partition(".")[0] == "oauth_connect":
        forget_locals(error)
    if error is not None and any(text != redacted(text) for text in _messages(error)):
        formatted = logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
        record.exc_text, record.exc_info = redacted(formatted), None
    elif record.exc_text:
        record.exc_text = redacted(record.exc_text)


def _messages(error: BaseException) -> Iterator[str]:
    """Yield the messages and notes of an exception, of its causes and of the members of groups."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield f"{current} {' '.join(map(str, getattr(current, '__notes__', ())))}"
        pending += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]


class _RedactingHandler(logging.Handler):
    """Redacts the records of child loggers before the other handlers get them. Writes nothing.

    A filter sees only the records of its own logger, and a library may create child loggers at any time.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        _filter.filter(record)
        return True


_filter = RedactingFilter()


def install(ours: Iterable[str] = OURS, libraries: Iterable[str] = LIBRARIES) -> None:
    """Mask secrets in the loggers of this package and of libraries, also in loggers created later."""
    for name in ours:
        _add_filter(logging.getLogger(name))
    for package in libraries:
        top = logging.getLogger(package)
        for logger in (top, *_children(package)):
            _add_filter(logger)
        if not any(isinstance(handler, _RedactingHandler) for handler in top.handlers):
            top.handlers.insert(0, _RedactingHandler())


def _children(package: str) -> list[logging.Logger]:
    loggers = list(logging.root.manager.loggerDict.items())
    return [
        logger
        for name, logger in loggers
        if name.startswith(f"{package}.") and isinstance(logger, logging.Logger)
    ]


def _add_filter(logger: logging.Logger) -> None:
    if not any(isinstance(existing, RedactingFilter) for existing in logger.filters):
        logger.addFilter(_filter)
