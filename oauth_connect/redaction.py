"""Tokens and other secrets are masked in what loggers say, whoever says it.

Nothing here knows which tokens there are: secrets are found by the names they go by (RFC 6749 and its
family) in form-encoded text, URLs, JSON, Python's ``repr`` and headers. So it is a second line: this
package's own records carry no secret to begin with.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

MASK = "[masked]"
WITHHELD = "[withheld: this record could not be searched for secrets]"
UNFITTING = "[arguments withheld: they do not fit the message]"

OURS = (
    "oauth_connect",
    "oauth_connect.admin",
    "oauth_connect.issuers",
    "oauth_connect.stores",
    "oauth_connect.views",
)
LIBRARIES = ("oauthlib", "requests_oauthlib", "requests", "urllib3")

# A key of these names, or one that ends in it (client_secret, refreshToken), has a secret for a value.
_SURE = (
    r"token|secret|password|assertion|verifier|appsecret_proof|(?:device|user|auth|authorization)[_-]?code"
)
# These two are words of everyday: only the whole key counts, in a nested URL too.
_EVERYDAY = r"(?:(?<![\w-])|(?<=%26)|(?<=%3F))(?:code|state)"
_HEADERS = r"authorization|cookie"
_KEY = rf"(?:{_SURE}|{_HEADERS}|{_EVERYDAY})"
_FLAGS = re.IGNORECASE | re.DOTALL

# Every repetition is possessive or cannot match in two ways: the time grows with the text and no faster.
_QUOTED = re.compile(
    rf"""({_KEY}\\{{0,8}}["']?\s*+(?:[:=]|%3D)\s*+[\[(]?[br]{{0,2}})
    (?: (")(?:[^"\\]|\\.)++ | (')(?:[^'\\]|\\.)++ | (\\{{1,8}}["'])(?:(?!(?<!\\)\4).)++ )""",
    _FLAGS | re.VERBOSE,
)
# Of pairs: ("code", "...") in a list of parameters, auth=("client", "...") as requests takes it.
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
    r"((?<![\w-])(?:Bearer|Basic|DPoP)(?:\s++|%20))(?!(?:realm|error|scope)\b)[\w.~+/-]++=*+", _FLAGS
)
# "Re-using previously supplied state 1a2B...": something opaque after its name.
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
# Where one of the first and one of the second is not in a text, the pattern finds nothing there.
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
_DEEPEST = 8
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"taskName"}


@lru_cache(maxsize=512)
def _is_secret(name: str) -> bool:
    return bool(_SECRET_KEY.fullmatch(name)) or name == "auth"


@lru_cache(maxsize=512)
def _is_surely_secret(name: str) -> bool:
    return bool(_SURE_KEY.fullmatch(name))


def redacted(text: str) -> str:
    """Return a text with its secrets masked; the same one where there are none."""
    if not _ANY_NAME.search(text):
        return text
    lowered = text.lower()
    for names, marks, pattern in _PATTERNS:
        if any(name in lowered for name in names) and any(mark in lowered for mark in marks):
            text = pattern.sub(_masked, text)
    return text


def _masked(match: re.Match[str]) -> str:
    """Keep what leads to the value, and the quote that opens it."""
    return "".join(kept for kept in match.groups() if kept) + MASK


def redacted_value(value: Any) -> Any:
    """Return a value with secrets masked at any depth: a copy where there are any, else the very same."""
    return _Search().value(value)


class _Search:
    """One walk through a value; what it is inside of is known, so that it cannot go round in circles."""

    def __init__(self) -> None:
        self.inside: list[int] = []

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return _same_or(value, redacted(value))
        if isinstance(value, bytes | bytearray):
            text = value.decode("latin-1")
            found = redacted(text)
            return value if found == text else found.encode("latin-1")
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
        if id(value) in self.inside or len(self.inside) >= _DEEPEST:
            return redacted(repr(value))
        self.inside.append(id(value))
        try:
            return search(value)
        finally:
            self.inside.pop()

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        found = {key: self._named(key, item) for key, item in value.items()}
        return value if all(found[key] is item for key, item in value.items()) else found

    def _sequence(self, value: Any) -> Any:
        items = list(value)
        if isinstance(value, tuple) and len(items) == 2:
            found = [self.value(items[0]), self._named(items[0], items[1])]
        else:
            found = [self.value(item) for item in items]
        if all(one is other for one, other in zip(items, found, strict=True)):
            return value
        return next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))(found)

    def _named(self, key: object, item: Any) -> Any:
        name = key.decode("latin-1") if isinstance(key, bytes) else key
        if isinstance(name, str) and _is_secret(name):
            return _all_masked(item)
        return self.value(item)


def _all_masked(item: Any) -> Any:
    """Mask a value that goes by a secret's name; numbers and None are none."""
    if isinstance(item, str | bytes | bytearray):
        return MASK if item else item
    if isinstance(item, list | tuple):
        return [_all_masked(one) for one in item]
    return redacted_value(item)


def _same_or(value: Any, found: str, text: str | None = None) -> Any:
    return value if found == (value if text is None else text) else found


class RedactingFilter(logging.Filter):
    """Masks secrets in a record: message, arguments, traceback, stack and ``extra``. Lets every record pass.

    It raises nothing: a record that cannot be searched is withheld. What the caller handed to the logger
    is left as it was; the record gets copies.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            _redact(record)
        except Exception:
            record.msg, record.args = WITHHELD, ()
            record.exc_info = record.exc_text = record.stack_info = None
            for name in vars(record).keys() - _PLAIN:
                delattr(record, name)
        return True


def _redact(record: logging.LogRecord) -> None:
    _redact_message(record)
    _redact_traceback(record)
    if record.stack_info:
        record.stack_info = redacted(record.stack_info)
    for name in vars(record).keys() - _PLAIN:
        value = getattr(record, name)
        found = _all_masked(value) if _is_surely_secret(name) else redacted_value(value)
        if found is not value:
            setattr(record, name, found)


def _redact_message(record: logging.LogRecord) -> None:
    """Search the arguments, then the whole: a name in the message may belong to a value in the arguments."""
    if record.args:
        record.args = redacted_value(record.args)
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        record.msg, record.args = f"{redacted(str(record.msg))} {UNFITTING}".replace("%", "%%"), ()
        return
    found = redacted(message)
    if found != message:
        record.msg, record.args = found, ()


def _redact_traceback(record: logging.LogRecord) -> None:
    """Write the traceback out masked where an exception in it tells a secret; lines of source tell none."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and any(text != redacted(text) for text in _told(error)):
        formatted = logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
        record.exc_text, record.exc_info = redacted(formatted), None
    elif record.exc_text:
        record.exc_text = redacted(record.exc_text)


def _told(error: BaseException) -> Iterator[str]:
    """Yield what an exception says, and those that it came from or is made of."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield f"{one} {' '.join(map(str, getattr(one, '__notes__', ())))}"
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


class _FirstInLine(logging.Handler):
    """Redacts what loggers below hand on, before any other handler of theirs sees it; writes nothing.

    A logger's filter sees what is said to this very logger only, and a library may make another at any time.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        _the_filter.filter(record)
        return True


_the_filter = RedactingFilter()


def install(ours: Iterable[str] = OURS, libraries: Iterable[str] = LIBRARIES) -> None:
    """Put the filter on this package's loggers and on the libraries', also those that they make later."""
    for name in ours:
        _add_filter(logging.getLogger(name))
    for package in libraries:
        top = logging.getLogger(package)
        for logger in (top, *_below(package)):
            _add_filter(logger)
        if not any(isinstance(handler, _FirstInLine) for handler in top.handlers):
            top.handlers.insert(0, _FirstInLine())


def _below(package: str) -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.items())
    return [
        logger
        for name, logger in known
        if name.startswith(f"{package}.") and isinstance(logger, logging.Logger)
    ]


def _add_filter(logger: logging.Logger) -> None:
    if not any(isinstance(one, RedactingFilter) for one in logger.filters):
        logger.addFilter(_the_filter)
