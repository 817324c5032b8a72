from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oauth_connect.protocol.token import Token

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def token(**changes) -> Token:
    return Token(**{"access_token": "access", "refresh_token": "refresh", "obtained_at": NOW, **changes})


def lasting(seconds: float) -> Token:
    return token(expires_at=NOW + timedelta(seconds=seconds))


@pytest.mark.compliance("B8")
@pytest.mark.parametrize(("after", "valid"), [(3539, True), (3540, False), (3541, False)])
def test_a_token_is_valid_until_the_leeway_before_its_expiry(after: int, valid: bool) -> None:
    moment = NOW + timedelta(seconds=after)
    assert lasting(3600).valid_for(timedelta(seconds=60), moment) is valid


@pytest.mark.parametrize(("after", "valid"), [(0, True), (29, True), (30, False)])
def test_a_short_token_is_usable_for_three_quarters_of_its_life(after: int, valid: bool) -> None:
    moment = NOW + timedelta(seconds=after)
    assert lasting(40).valid_for(timedelta(seconds=60), moment) is valid


@pytest.mark.compliance("A16")
def test_a_token_of_unknown_expiry_is_valid_and_never_expired() -> None:
    unknown = token()
    assert unknown.lifetime is None
    assert unknown.valid_for(timedelta(days=1), NOW + timedelta(days=9999))
    assert not unknown.is_expired(NOW + timedelta(days=9999))


@pytest.mark.parametrize(("after", "expired"), [(59, False), (60, True)])
def test_a_token_expires_at_its_expiry(after: int, expired: bool) -> None:
    assert lasting(60).is_expired(NOW + timedelta(seconds=after)) is expired


@pytest.mark.compliance("A18")
@pytest.mark.compliance("D29")
@pytest.mark.parametrize(("answered", "kept"), [("", "refresh"), ("newer", "newer")])
def test_a_refresh_token_is_replaced_where_there_is_a_new_one(answered: str, kept: str) -> None:
    successor = token(access_token="access-1", refresh_token=answered).after(token())
    assert (successor.access_token, successor.refresh_token) == ("access-1", kept)


@pytest.mark.parametrize(
    ("answered", "known"),
    [("", NOW + timedelta(days=30)), ("refresh", NOW + timedelta(days=30)), ("newer", None)],
)
def test_a_refresh_tokens_expiry_stays_known_as_long_as_it_is_the_same(answered, known) -> None:
    previous = token(refresh_token_expires_at=NOW + timedelta(days=30))
    assert token(refresh_token=answered).after(previous).refresh_token_expires_at == known


def test_what_only_the_first_response_said_stays_known() -> None:
    successor = token(extra={"b": 2}).after(token(extra={"a": 1, "b": 1}))
    assert successor.extra == {"a": 1, "b": 2}


@pytest.mark.parametrize("expiry", [None, NOW + timedelta(hours=1)])
def test_a_token_survives_json_unchanged(expiry) -> None:
    original = token(
        token_type="bearer",
        scopes=("a", "b"),
        expires_at=expiry,
        refresh_token_expires_at=expiry,
        extra={"id_token": "x.y.z", "nested": {"deep": [1, None]}},
    )
    assert Token.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@pytest.mark.compliance("B3")
@pytest.mark.compliance("D45")
@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>80}".format, ascii, lambda t: f"{[t]} {t!s}"])
def test_a_token_never_shows_its_secrets(show) -> None:
    secret = token(access_token="canary-a", refresh_token="canary-r", extra={"id_token": "canary-i"})
    assert "canary" not in show(secret)


@pytest.mark.compliance("B3")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_token_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="pk"):
        pickle.dumps(token(), protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_token_is_its_own_copy(duplicate) -> None:
    original = token()
    assert duplicate([original])[0] is original


def test_a_token_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        token().access_token = "other"


@pytest.mark.parametrize(
    ("lifetime", "took", "leeway"), [(3600, 0, 60), (3600, 25, 60), (30, 0, 7.5), (30, 25, 2.5), (30, 40, 0)]
)
def test_the_leeway_is_at_most_half_of_what_a_slow_response_left(
    lifetime: int, took: int, leeway: float
) -> None:
    token = Token(
        "a",
        NOW,
        expires_at=NOW + timedelta(seconds=lifetime),
        received_at=NOW + timedelta(seconds=took),
    )
    assert token.leeway(timedelta(seconds=60)) == timedelta(seconds=leeway)
    assert Token.from_dict(token.to_dict()).received_at == token.received_at


# --- an API that refuses it -----------------------------------------------------------------------


@pytest.mark.compliance("D40")
@pytest.mark.parametrize(
    ("more", "seconds", "refused_again"),
    [
        ({}, 0, True),
        ({}, 59, True),
        ({}, 61, False),
        ({}, -1, False),
        ({"short_lived": True}, 1, True),
        ({"reissuable": True}, 4, True),
        ({"reissuable": True}, 6, False),
        ({"reissuable": True, "short_lived": True}, 1, False),
        ({"after_401": False}, 1, False),
    ],
)
def test_another_refresh_for_a_401_is_pointless_for_a_while(
    more: dict[str, Any], seconds: int, refused_again: bool
) -> None:
    found = token(**{"after_401": True, **more})
    assert found.is_refused_again(found.obtained_at + timedelta(seconds=seconds)) is refused_again
    assert Token.from_dict(found.to_dict()) == found
