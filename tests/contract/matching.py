"""Comparing a request with a golden one; what differs is told in lines that a person can act upon."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

from tests.contract.golden import Facts, fits, shown

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True)
class Asked:
    """A request as it arrived. ``headers`` by their names in lower case."""

    method: str
    url: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.url}"

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_for(asked: Asked, expected: Mapping[str, Any]) -> bool:
    """Tell whether a request is meant to be the expected one: its method and URL are right."""
    return asked.method in listed(expected.get("method", "GET")) and any(
        re.fullmatch(_as_pattern(url), asked.url) for url in listed(expected["url"])
    )


def listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _as_pattern(url: str) -> str:
    """``<version>`` in a golden URL is any version: which one is the preset's choice."""
    return r"(?:v\d+\.\d+|\d{4}-\d{2})".join(map(re.escape, url.split("<version>")))


def differences(asked: Asked, expected: Mapping[str, Any], facts: Facts) -> list[str]:
    """Say in which ways a request is not the expected one. Nothing: it is."""
    kinds = listed(expected.get("body", "none"))
    kind = kind_of(asked)
    if kind not in kinds:
        return [f"the parameters travel as {kind!r}, expected {' or '.join(map(repr, kinds))}"]
    found, told = parameters_of(asked, kind)
    told += _content_type(asked, kind)
    told += _headers(asked, expected, facts)
    rest, about_client = _without_client(asked, expected, found, facts)
    told += about_client
    told += _verifier(rest, expected, facts)
    told += compared(rest, expected.get("parameters", {}), expected.get("optional", {}), facts)
    if kind != "query":
        told += [
            f"query: {line}" for line in compared(_pairs(asked.query), expected.get("query", {}), {}, facts)
        ]
    return told


def kind_of(asked: Asked) -> str:
    if not asked.body:
        return "query" if asked.query else "none"
    return {FORM: "form", JSON: "json"}.get(asked.content_type, asked.content_type)


def parameters_of(asked: Asked, kind: str) -> tuple[dict[str, Any], list[str]]:
    if kind == "json":
        parsed = json.loads(asked.body)
        return (parsed, []) if isinstance(parsed, dict) else ({}, ["the JSON body is not an object"])
    text = {"form": asked.body.decode(), "query": asked.query}.get(kind, "")
    return _pairs(text), [f"parameter {name}: repeated" for name in _repeated(text)]


def _pairs(text: str) -> dict[str, Any]:
    return dict(parse_qsl(text, keep_blank_values=True))


def _repeated(text: str) -> list[str]:
    counted = Counter(name for name, _ in parse_qsl(text, keep_blank_values=True))
    return [name for name, times in counted.items() if times > 1]


def _content_type(asked: Asked, kind: str) -> list[str]:
    if kind in ("form", "json") or "content-type" not in asked.headers:
        return []
    return [f"header Content-Type: {asked.headers['content-type']!r} on a request without a body"]


def _headers(asked: Asked, expected: Mapping[str, Any], facts: Facts) -> list[str]:
    told = []
    for name, value in expected.get("headers", {}).items():
        actual = asked.headers.get(name.lower())
        if value is None and actual is not None:
            told.append(f"header {name}: {actual!r}, expected none")
        elif value is not None and not fits(value, actual, facts):
            told.append(f"header {name}: {actual!r}, expected {shown(value, facts)}")
    return told


def _without_client(
    asked: Asked, expected: Mapping[str, Any], found: dict[str, Any], facts: Facts
) -> tuple[dict[str, Any], list[str]]:
    """Take the client's credentials out of the parameters, and say what is wrong with how they were sent."""
    ways = expected.get("client")
    if ways is None:
        return found, []
    way = "basic secret alone" if "basic secret alone" in listed(ways) else _way_of(asked, found)
    rest = {name: value for name, value in found.items() if name not in ("client_id", "client_secret")}
    if way not in listed(ways):
        return rest, [f"client authentication: {way}, expected {' or '.join(listed(ways))}"]
    return rest, _credentials(way, asked, found, facts)


def _way_of(asked: Asked, found: Mapping[str, Any]) -> str:
    scheme = asked.headers.get("authorization", "").partition(" ")[0].lower()
    in_parameters = "client_secret" in found
    told = "post" if in_parameters else "id" if "client_id" in found else ""
    return " and ".join(filter(None, (scheme, told))) or "none"


def _credentials(way: str, asked: Asked, found: Mapping[str, Any], facts: Facts) -> list[str]:
    client_id, secret = facts.values["client_id"], facts.values["client_secret"]
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    right = {
        "post": (found.get("client_id"), found.get("client_secret")) == (client_id, secret),
        "basic": asked.headers.get("authorization") == f"Basic {b64encode(pair.encode()).decode()}",
        "basic secret alone": asked.headers.get("authorization") == f"Basic {_base64(f'{secret}:')}",
        "bearer": asked.headers.get("authorization") == f"Bearer {facts.values.get('access_token')}",
        "id": found.get("client_id") == client_id,
    }
    wrong = [one for one in way.split(" and ") if not right.get(one, True)]
    return [f"client authentication: {one} with other credentials" for one in wrong]


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _verifier(rest: dict[str, Any], expected: Mapping[str, Any], facts: Facts) -> list[str]:
    """A code that was asked for with a challenge is exchanged with its verifier, and only such a one."""
    if "code" not in expected.get("parameters", {}):
        return []
    verifier, challenge = rest.pop("code_verifier", None), facts.values.get("code_challenge")
    if challenge is None:
        return [] if verifier is None else ["parameter code_verifier: sent, but there was no code_challenge"]
    if verifier is None:
        return ["parameter code_verifier: missing, but there was a code_challenge"]
    digest = b64encode(sha256(verifier.encode()).digest(), b"-_").decode().rstrip("=")
    return [] if digest == challenge else ["parameter code_verifier: does not fit the code_challenge"]


def compared(
    found: Mapping[str, Any], expected: Mapping[str, Any], optional: Mapping[str, Any], facts: Facts
) -> list[str]:
    """Compare parameters: all that are expected, none beyond those that are allowed."""
    told = [
        f"parameter {name}: missing, expected {shown(expected[name], facts)}"
        for name in expected
        if name not in found
    ]
    for name, value in found.items():
        wanted = {**optional, **expected}.get(name)
        if wanted is None:
            told.append(f"parameter {name}: {value!r} was not expected")
        elif not fits(wanted, value, facts):
            told.append(f"parameter {name}: {value!r}, expected {shown(wanted, facts)}")
    return told


def authorization_differences(url: str, expected: Mapping[str, Any], facts: Facts) -> list[str]:
    """Say in which ways an authorization URL is not the one that the provider documents.

    What the URL shows (the challenge, the nonce, the scopes) is noted for what follows.
    """
    split = urlsplit(url)
    found, told = _pairs(split.query), [f"parameter {name}: repeated" for name in _repeated(split.query)]
    address = f"{split.scheme}://{split.netloc}{split.path}"
    if not re.fullmatch(_as_pattern(expected["url"]), address):
        told.append(f"URL: {address}, expected {expected['url']}")
    told += _scope(found, expected["scope"], facts)
    told += _challenge(found, expected, facts)
    if "nonce" in found:
        facts.values["nonce"] = found.pop("nonce")
    own = {
        "response_type": "code",
        expected.get("client_id_parameter", "client_id"): "{client_id}",
        "redirect_uri": "{redirect_uri}",
        "state": {"like": r"^[\w-]{20,}$"},
    }
    return told + compared(
        found, {**own, **expected.get("parameters", {})}, expected.get("optional", {}), facts
    )


def _scope(found: dict[str, Any], expected: Mapping[str, Any], facts: Facts) -> list[str]:
    name = expected["parameter"]
    if name is None:
        return []  # the comparison of all parameters finds one that should not be there
    value = found.pop(name, None)
    if not value:
        return [f"parameter {name}: {value!r}, expected scopes"]
    sent = value.split(expected["separator"])
    facts.scopes = tuple(sent)
    needed = [*expected["asked"], *expected.get("always", ())]
    missing = [scope for scope in needed if scope not in sent]
    allowed = {*needed, *expected.get("optional", ())}
    surplus = [scope for scope in sent if scope not in allowed]
    told = [f"parameter {name}: {value!r} lacks {', '.join(missing)}"] if missing else []
    if surplus:
        told.append(
            f"parameter {name}: {value!r} asks for more than is needed, or with another separator: {surplus}"
        )
    return told


def _challenge(found: dict[str, Any], expected: Mapping[str, Any], facts: Facts) -> list[str]:
    mode = expected["pkce"]
    challenge, method = found.pop("code_challenge", None), found.pop("code_challenge_method", None)
    if challenge is None:
        return ["parameter code_challenge: missing, the provider knows PKCE"] if mode == "sent" else []
    if mode == "never":
        return ["parameter code_challenge: sent, but the provider does not know PKCE"]
    facts.values["code_challenge"] = challenge
    written = expected.get("code_challenge_method", "S256")
    return [] if method == written else [f"parameter code_challenge_method: {method!r}, expected {written!r}"]
