"""Makes text that a regular expression matches, the same for the same seed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

# The characters to choose from. Those that read well come first.
READABLE = "abcdefghijklmnopqrstuvwxyz0123456789"
OTHERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.~+/:@ "
OF_ONE_CHARACTER = {"LITERAL", "NOT_LITERAL", "ANY", "IN"}
LENGTH = 8  # of a run of characters that may be longer
_CATEGORIES = {"DIGIT": r"\d", "NOT_DIGIT": r"\D", "WORD": r"\w", "NOT_WORD": r"\W", "SPACE": r"\s"}


def text_matching(pattern: str, seed: str) -> str | None:
    """Return a text that the whole pattern matches, or None if none was found.

    Seeds that differ make different texts, as far as the pattern leaves a choice.
    """
    try:
        parsed = import_module("re._parser").parse(pattern)
        made = _Maker(seed).sequence(parsed)
        return made if re.fullmatch(pattern, made) else None
    except (ImportError, AttributeError, TypeError, ValueError, LookupError, re.error, RecursionError):
        return None  # this Python parses patterns elsewhere, or the pattern is too complex


class _Maker:
    """Walks the parse tree of a pattern. Each choice is taken from a hash of the seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._choices = 0
        self._makers: dict[str, Callable[[Any], str]] = {
            "LITERAL": chr,
            "NOT_LITERAL": lambda code: self._one_of(lambda character: character != chr(code)),
            "ANY": lambda _: self._one_of(lambda character: True),
            "IN": self._of_class,
            "BRANCH": lambda node: self.sequence(node[1][0]),
            "SUBPATTERN": lambda node: self.sequence(node[3]),
            "ATOMIC_GROUP": self.sequence,
            "MAX_REPEAT": self._repeat,
            "MIN_REPEAT": self._repeat,
            "POSSESSIVE_REPEAT": self._repeat,
        }

    def sequence(self, nodes: Any) -> str:
        """Return text for the nodes in turn. An anchor or a lookaround has none: the result is compared."""
        made = ((str(operation), node) for operation, node in nodes)
        return "".join(self._makers[name](node) for name, node in made if name in self._makers)

    def _repeat(self, node: Any) -> str:
        least, most, repeated = node
        is_run = len(repeated) == 1 and str(repeated[0][0]) in OF_ONE_CHARACTER
        wanted = max(least, min(int(most), LENGTH)) if is_run else least
        return "".join(self.sequence(repeated) for _ in range(wanted))

    def _of_class(self, items: Sequence[Any]) -> str:
        return self._one_of(lambda character: _is_in(items, character))

    def _one_of(self, fits: Callable[[str], bool]) -> str:
        """Choose one of the characters that fit. Raises LookupError if there is none."""
        fitting = [one for one in READABLE if fits(one)] or [one for one in OTHERS if fits(one)]
        if not fitting:
            raise LookupError("no character fits")
        self._choices += 1
        digest = hashlib.sha256(b"%d:%s" % (self._choices, self._seed)).digest()
        return fitting[int.from_bytes(digest[:4]) % len(fitting)]


def _is_in(items: Sequence[Any], character: str) -> bool:
    negated = str(items[0][0]) == "NEGATE"
    return negated != any(_matches(str(name), value, character) for name, value in items)


def _matches(name: str, value: Any, character: str) -> bool:
    if name == "LITERAL":
        return chr(value) == character
    if name == "RANGE":
        return chr(value[0]) <= character <= chr(value[1])
    if name == "CATEGORY":
        return bool(re.match(_CATEGORIES[str(value).removeprefix("CATEGORY_")], character))
    return False
