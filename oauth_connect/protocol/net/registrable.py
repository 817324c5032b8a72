"""Whether the variables of a host can change its registrable domain, the part that one party registers.

A pattern is a regular expression. Its possible endings are computed from its parse tree. Where they are
unknown, any ending counts as possible, so the result errs on the safe side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

PLACEHOLDER = re.compile(r"\{(\w+)\}")
Endings = frozenset[tuple[str, bool]]  # the end of a text, and whether it is the whole text
WHOLE: Endings = frozenset({("", True)})
ANY: Endings = frozenset({("", False)})
MAX_ENDINGS = 256
MAX_REPEATS = 4
# Below these labels of a country anybody may register: example.co.uk. The list is not complete.
_PUBLIC_LABELS = frozenset({"ac", "co", "com", "edu", "go", "gob", "gov", "ne", "net", "nom", "or", "org"})


def fixes_domain(host: str, variables: Mapping[str, Endings]) -> bool:
    """Return whether the registrable domain is fixed, or one of a list, for all values of ``variables``.

    Other placeholders in the host count as fixed text.
    """
    endings = WHOLE
    for part in reversed(re.split(r"(\{\w+\})", _without_port(host))):
        name = part.strip("{}") if PLACEHOLDER.fullmatch(part) else ""
        endings = _join(variables.get(name, _text(name or part)), endings)
    return all(is_whole or _has_domain(text) for text, is_whole in endings)


def endings_of(pattern: str, choices: Iterable[str] = ()) -> Endings:
    """Return the possible endings of a variable's value."""
    listed = frozenset((choice, True) for choice in choices)
    return listed or _endings_of(pattern)


@lru_cache(maxsize=256)
def _endings_of(pattern: str) -> Endings:
    try:
        return _sequence(import_module("re._parser").parse(pattern))
    except (ImportError, AttributeError, TypeError, ValueError, re.error, RecursionError):
        return ANY  # this Python parses patterns elsewhere


def netloc(url: str) -> str:
    """Return host and port of a URL or of a template for one, as they are written."""
    return re.split(r"[/?#\\]", url.partition("://")[2] or url, maxsplit=1)[0]


def _without_port(host: str) -> str:
    return re.sub(r":(?:\d+|\{\w+\})$", "", host)


def _text(text: str) -> Endings:
    return frozenset({(text, True)})


def _has_domain(ending: str) -> bool:
    """Return whether an ending of a host contains a registrable domain, after the dot that begins it."""
    labels = ending.lower().rstrip(".").split(".")[1:]
    if not all(labels) or not labels or labels[-1].isdigit():
        return False
    is_shared = len(labels) > 1 and len(labels[-1]) == 2 and labels[-2] in _PUBLIC_LABELS
    return len(labels) >= (3 if is_shared else 2)


def _join(left: Endings, right: Endings) -> Endings:
    joined = {(text, False) for text, is_whole in right if not is_whole}
    joined |= {(begin + text, done) for text, is_whole in right if is_whole for begin, done in left}
    return frozenset(joined) if len(joined) <= MAX_ENDINGS else ANY


def _sequence(nodes: Iterable[Any]) -> Endings:
    endings = WHOLE
    for operation, value in reversed(list(nodes)):
        endings = _join(_node(str(operation), value), endings)
    return endings


def _node(operation: str, value: Any) -> Endings:
    if operation == "LITERAL":
        return _text(chr(value))
    if operation in ("AT", "ASSERT", "ASSERT_NOT"):  # match no character
        return WHOLE
    if operation == "IN" and all(str(kind) == "LITERAL" for kind, _ in value):
        return frozenset((chr(character), True) for _, character in value)
    if operation == "BRANCH":
        return frozenset().union(*map(_sequence, value[1]))
    if operation == "SUBPATTERN":
        return _sequence(value[3])
    if operation == "ATOMIC_GROUP":
        return _sequence(value)
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return _repeated(*value)
    return ANY


def _repeated(least: int, most: int, nodes: Iterable[Any]) -> Endings:
    once = _sequence(nodes)
    if most > MAX_REPEATS:  # the last repetition, after anything
        last = frozenset((text, False) for text, _ in once)
        return last if least else last | WHOLE
    endings: Endings = frozenset()
    repeated = WHOLE
    for count in range(most + 1):
        endings = endings | repeated if count >= least else endings
        repeated = _join(once, repeated)
    return endings
