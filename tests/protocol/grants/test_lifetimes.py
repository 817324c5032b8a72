"""Reading the lifetimes of tokens and grants. No sockets."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oauth_connect.protocol.grants import lifetimes, responses
from oauth_connect.protocol.token import Token
from tests.protocol.providers import acme

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SOON = int((NOW + timedelta(hours=1)).timestamp())


def jwt(claims: Any) -> str:
    return "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".x"


def read(answer: dict[str, Any], **rules: Any) -> Token:
    whole = {"access_token": "a", "token_type": "bearer", **answer}
    return responses.read_token(acme(token_response=rules), whole, obtained_at=NOW)


@pytest.mark.parametrize(
    ("unit", "answer"),
    [
        ("seconds", {"expires_in": "3600"}),
        ("seconds", {"expires_in": SOON}),
        ("seconds", {"expires_in": str(SOON * 1000)}),
        ("epoch_seconds", {"expires_in": SOON}),
        ("epoch_seconds", {"expires_in": str(SOON)}),
        ("epoch_milliseconds", {"expires_in": SOON * 1000}),
        ("iso8601", {"expires_in": "2026-11-23T13:00:00Z"}),
        ("iso8601", {"expires_in": "2026-11-23T13:00:00"}),
        ("iso8601", {"expires_in": "2026-11-23T15:00:00+02:00"}),
        ("jwt", {"access_token": jwt({"exp": SOON})}),
    ],
)
def test_an_expiry_is_read_in_the_providers_form(unit: str, answer: dict[str, Any]) -> None:
    assert read(answer, expires_unit=unit).expires_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("unit", "value", "seconds"),
    [
        ("seconds", "60", 60),
        ("seconds", SOON, 3600),
        ("seconds", SOON - 7200, None),
        ("seconds", SOON * 10, None),
        ("epoch_seconds", SOON, 3600),
        ("epoch_milliseconds", str(SOON * 1000), 3600),
        ("iso8601", "2026-11-23T13:00:00Z", 3600),
        ("iso8601", "2020-01-01T00:00:00Z", None),
        ("iso8601", ["soon"], None),
        ("epoch_seconds", True, None),
        ("epoch_seconds", 1e300, None),
        ("iso8601", None, None),
    ],
)
@pytest.mark.parametrize("assumed", [None, 9])
def test_the_end_of_a_refresh_token_may_be_a_point_in_time(unit, value, seconds, assumed) -> None:
    rules = {"refresh_token_expires_in": "ends", "refresh_token_expires_unit": unit}
    provider = acme(token_response=rules, refresh={"lifetime_seconds": assumed})
    ends = lifetimes.refresh_token_expiry(provider, {"ends": value}, NOW, assume=True)
    left = seconds or assumed
    assert ends == (NOW + timedelta(seconds=left) if left else None)


@pytest.mark.compliance("D27")
@pytest.mark.parametrize(
    ("unit", "answer"),
    [
        ("epoch_seconds", {"expires_in": 3600}),
        ("epoch_seconds", {"expires_in": 1e18}),
        ("epoch_seconds", {"expires_in": True}),
        ("epoch_seconds", {}),
        ("epoch_milliseconds", {"expires_in": SOON}),
        ("iso8601", {"expires_in": "soon"}),
        ("iso8601", {"expires_in": 5}),
        ("jwt", {"access_token": "opaque"}),
        ("jwt", {"access_token": jwt([])}),
        ("jwt", {"access_token": jwt({"exp": "x"})}),
        ("jwt", {"access_token": "a.%%%.b"}),
    ],
)
def test_a_senseless_expiry_is_ignored(unit: str, answer: dict[str, Any]) -> None:
    assert read(answer, expires_unit=unit).expires_at is None
    assumed = read(answer, expires_unit=unit, assumed_lifetime=60)
    assert assumed.expires_at == NOW + timedelta(minutes=1)


def test_the_fields_of_an_answer_may_have_other_names() -> None:
    fields = {"access_token": "key", "refresh_token": "next", "expires_in": "ttl", "scope": "may"}
    answer = {"key": "k", "next": "n", "ttl": 3600, "may": "a b", "token_type": "bearer", "account": "ada"}
    token = responses.read_token(acme(token_response={"fields": fields}), answer, obtained_at=NOW)
    assert (token.access_token, token.refresh_token, token.scopes) == ("k", "n", ("a", "b"))
    assert token.lifetime == timedelta(hours=1)
    assert token.extra == {"account": "ada"}


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({"refresh_token": "r"}, 600),
        ({"refresh_token": "r", "refresh_token_expires_in": 60}, 60),
        ({}, None),
    ],
)
def test_the_life_of_an_unused_refresh_token(answer: dict[str, Any], seconds: int | None) -> None:
    whole = {"access_token": "a", "token_type": "bearer", **answer}
    token = responses.read_token(acme(refresh={"lifetime_seconds": 600}), whole, obtained_at=NOW)
    expected = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert token.refresh_token_expires_at == expected


@pytest.mark.parametrize(("absolute", "days"), [(86400, 1), (None, None), (0, None)])
def test_the_end_of_a_grant_counts_from_the_consent(absolute: int | None, days: int | None) -> None:
    found = lifetimes.reconnect_before(acme(refresh={"absolute_seconds": absolute}), NOW)
    assert found == (None if days is None else NOW + timedelta(days=days))
