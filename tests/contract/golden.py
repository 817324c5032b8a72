"""The golden exchanges: what each provider is asked and how it answers, by hand from its documentation.

Nothing here looks at a preset. ``exchanges/README.md`` tells what the files may say.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FOLDER = Path(__file__).parent / "exchanges"
PROVIDERS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@cache
def load(provider: str) -> dict[str, Any]:
    """Return a provider's golden exchanges. Shared between tests: not to be changed."""
    found: dict[str, Any] = json.loads((FOLDER / f"{provider}.json").read_text("utf-8"))
    return found


def named(section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every provider with each of the cases that a section of its file lists."""
    for provider in PROVIDERS:
        for case in load(provider).get(section, ()):
            yield provider, case


def hosts_of(golden: Mapping[str, Any]) -> frozenset[str]:
    """The hosts that a provider's exchanges are with."""
    return frozenset(str(urlsplit(url).hostname) for url in _urls(golden))


def _urls(part: Any) -> Iterator[str]:
    """Every URL that is asked for; not those that calls must be refused to, nor those in answers."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key == "url":
                yield from [value] if isinstance(value, str) else value
            elif key not in ("answer", "refused", "authorization"):
                yield from _urls(value)
    elif isinstance(part, list):
        for value in part:
            yield from _urls(value)


@dataclass
class Facts:
    """What one run of an exchange has shown so far; placeholders in expectations stand for it."""

    values: dict[str, str] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()

    def fill(self, template: Any) -> Any:
        """Return a template with its placeholders replaced; one that is not known yet stays as it is."""
        if isinstance(template, str):
            return _PLACEHOLDER.sub(lambda found: self.values.get(found[1], found[0]), template)
        if isinstance(template, list):
            return [self.fill(value) for value in template]
        if isinstance(template, Mapping):
            if len(template) == 1:
                [(name, value)] = template.items()
                if name in _MADE:
                    return _MADE[name](self, self.fill(value))
            filled = {key: self.fill(value) for key, value in template.items()}
            return {key: value for key, value in filled.items() if value is not _NOTHING}
        return template

    def learn(self, answer: Any, path: Sequence[str | int] = ()) -> None:
        """Note the tokens that an answer issues, at the top or where ``path`` leads."""
        for key in path:
            answer = answer[key]
        for name in ("access_token", "refresh_token"):
            if isinstance(answer.get(name), str):
                self.values[name] = answer[name]

    def _id_token(self, claims: dict[str, Any]) -> Any:
        """An ID token comes only where ``openid`` was asked for."""
        if "openid" not in self.scopes:
            return _NOTHING
        now = int(time.time())
        claims = {"iat": now, "exp": now + 3600, **claims}
        if "nonce" in self.values:
            claims["nonce"] = self.values["nonce"]
        return _jwt(claims)

    def _access_token(self, claims: dict[str, Any]) -> str:
        """An access token that is a JWT; its ``exp`` is given in seconds from now."""
        return _jwt({**claims, "exp": int(time.time()) + claims["exp"]})

    def _moment(self, seconds: int) -> str:
        return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _epoch(self, seconds: int) -> int:
        return int(time.time()) + seconds


_NOTHING = object()
_MADE: dict[str, Callable[[Facts, Any], Any]] = {
    "$id_token": Facts._id_token,
    "$jwt": Facts._access_token,
    "$iso8601_in": Facts._moment,
    "$epoch_in": Facts._epoch,
}


def _jwt(claims: Mapping[str, Any]) -> str:
    return ".".join(map(_base64url, ({"alg": "RS256", "kid": "1"}, claims, "signature")))


def _base64url(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def fits(expected: Any, actual: object, facts: Facts) -> bool:
    """Compare a value with its expectation: a string, a list of alternatives, or ``{"like": pattern}``."""
    if isinstance(expected, list):
        return any(fits(one, actual, facts) for one in expected)
    if isinstance(expected, Mapping) and "like" in expected:
        return isinstance(actual, str) and re.search(expected["like"], actual) is not None
    return bool(facts.fill(expected) == actual)


def shown(expected: Any, facts: Facts) -> str:
    """Say an expectation in words."""
    if isinstance(expected, list):
        return " or ".join(shown(one, facts) for one in expected)
    if isinstance(expected, Mapping) and "like" in expected:
        return f"something like /{expected['like']}/"
    return repr(facts.fill(expected))
