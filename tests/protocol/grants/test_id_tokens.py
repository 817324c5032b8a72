"""ID tokens are read or ignored, and the one of a refresh is compared with the one before."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.grants.bodies import Body
from oauth_connect.protocol.grants.id_tokens import claims_of, differing_claim
from oauth_connect.protocol.token import Token
from tests.protocol.providers import acme
from tests.support.tokens import FRESH, id_token

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ISSUER = "https://id.example"
CLAIMS = {"iss": ISSUER, "aud": "client", "sub": "ada", "exp": 1, "nonce": "old"}
DEEP = 100_000


def token(*, raw: object = None, **claims: Any) -> Token:
    """Return a token with an ID token of these claims. None: without that claim."""
    named = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return Token("a", NOW, refresh_token="r", extra={"id_token": id_token(**named) if raw is None else raw})


def compared(new: Token, previous: Token | None = None, **entry: Any) -> str | None:
    return differing_claim(acme(**entry), previous or token(), new)


UNREADABLE: dict[str, object] = {
    "nothing": None,
    "empty": "",
    "no JWT": "opaque",
    "a number": 7,
    "an object": {"sub": "other"},
    "two parts": "e30.e30",
    "encrypted, five parts": "e30.e30.e30.e30.e30",
    "no base64": "e30.{}.signature",
    "no ASCII": "e30.é😀.signature",
    "no UTF-8": id_token(payload=b'{"sub": "\xff"}'),
    "no JSON": id_token(payload=b"sub=other"),
    "a list": id_token(payload=b'["other"]'),
    "a string": id_token(payload=b'"other"'),
    "null": id_token(payload=b"null"),
    "nested without end": id_token(payload=b"[" * DEEP),
}
every_unreadable = pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
WITHOUT_SUBJECT = {
    "no subject": id_token(iss=ISSUER, aud="client"),
    "an empty subject": id_token(**{**CLAIMS, "sub": ""}),
    "a subject of another kind": id_token(**{**CLAIMS, "sub": ["other"]}),
}
every_incomparable = pytest.mark.parametrize(
    "raw", [*UNREADABLE.values(), *WITHOUT_SUBJECT.values()], ids=[*UNREADABLE, *WITHOUT_SUBJECT]
)


@every_unreadable
def test_what_cannot_be_read_has_no_claims(raw: object) -> None:
    assert claims_of(raw) is None


def test_claims_are_read_with_and_without_padding() -> None:
    for length in range(4):
        claims = {"sub": "a" * length}
        assert claims_of(id_token(**claims)) == claims
        padded = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
        assert claims_of(f"e30.{padded}.") == claims


def test_a_large_id_token_is_read() -> None:
    groups = ["group"] * 200_000
    assert compared(token(groups=groups), token(groups=groups)) is None
    assert compared(token(groups=groups, sub="other"), token(groups=groups)) == "sub"


@pytest.mark.compliance("A39")
def test_the_same_account_is_accepted_whatever_expiry_and_nonce_say() -> None:
    assert compared(token()) is None
    assert compared(token(exp=None, nonce=None, azp="other", acr="1")) is None


@pytest.mark.compliance("A39")
@pytest.mark.parametrize("subject", ["other", "Ada", "ada ", 7])
def test_another_subject_is_another_account(subject: object) -> None:
    assert compared(token(sub=subject)) == "sub"


def test_a_number_and_its_digits_are_one_subject() -> None:
    assert compared(token(sub="42"), token(sub=42)) is None
    assert compared(token(sub=42), token(sub="42")) is None
    assert compared(token(sub=43), token(sub=42)) == "sub"


@pytest.mark.parametrize("issuer", [f"{ISSUER}/", "https://other.example", ["x"], None])
def test_another_issuer_contradicts_and_subjects_are_not_compared(issuer: object) -> None:
    assert compared(token(iss=issuer)) == "iss"
    assert compared(token(iss=issuer, sub="other")) == "iss"
    assert compared(token(iss=issuer), issuer=ISSUER) == "iss"


def test_after_the_site_has_corrected_the_issuer_nothing_is_compared() -> None:
    assert compared(token(iss=f"{ISSUER}/", sub="other", aud="other"), issuer=f"{ISSUER}/") is None


def test_the_configured_issuer_is_not_needed_where_the_issuer_stayed() -> None:
    assert compared(token(), issuer="https://common.example") is None
    assert compared(token(sub="other"), issuer="https://common.example") == "sub"


@pytest.mark.parametrize(
    ("audience", "before"),
    [
        ("client", "client"),
        (["client"], "client"),
        (["client", "another"], "client"),
        ("client", "the client before"),
        (["a", "b", "c"], ["b", "a"]),
        ("a", ["a"]),
        (None, None),
    ],
)
def test_an_audience_with_the_client_or_with_all_former_ones_is_accepted(
    audience: object, before: object
) -> None:
    assert compared(token(aud=audience), token(aud=before)) is None


@pytest.mark.parametrize(
    ("audience", "before"),
    [("other", "client"), (["a"], ["a", "b"]), ([], "client"), (None, "client"), ({"client": 1}, "client")],
)
def test_another_audience_contradicts_and_subjects_are_not_compared(audience: object, before: object) -> None:
    assert compared(token(aud=audience), token(aud=before)) == "aud"
    assert compared(token(aud=audience, sub="other"), token(aud=before)) == "aud"


@every_incomparable
def test_with_an_unreadable_one_nothing_is_compared(raw: object) -> None:
    other = token(iss="https://other.example", sub="other")
    assert compared(Token("a", NOW, extra={"id_token": raw}), other) is None
    assert compared(other, Token("a", NOW, extra={"id_token": raw})) is None


def test_without_one_nothing_is_compared() -> None:
    assert compared(token(sub="other"), Token("a", NOW)) is None
    assert compared(Token("a", NOW)) is None


# --- what a refresh keeps --------------------------------------------------------------------------


def refreshed(previous: Token, **changes: Any) -> Token:
    body = Body({name: value for name, value in {**FRESH, **changes}.items() if value is not None})
    return responses.refreshed(acme(), 200, body, previous=previous, obtained_at=NOW)


@every_incomparable
def test_an_unreadable_one_does_not_replace_a_readable_one(raw: object) -> None:
    previous = token()
    body = Body({**FRESH, "id_token": raw})
    new = responses.refreshed(acme(), 200, body, previous=previous, obtained_at=NOW)
    assert (new.access_token, new.extra) == ("access-1", previous.extra)


def test_a_readable_one_replaces_the_one_before() -> None:
    new = id_token(**CLAIMS, iat=2)
    assert refreshed(token(), id_token=new).extra["id_token"] == new


def test_where_none_was_readable_the_newest_stays() -> None:
    encrypted = UNREADABLE["encrypted, five parts"]
    assert refreshed(token(raw="a.b.c.d.e"), id_token=encrypted).extra["id_token"] == encrypted
    assert refreshed(Token("a", NOW, refresh_token="r"), id_token=encrypted).extra["id_token"] == encrypted


def test_a_response_with_a_refresh_token_alone_has_its_id_token_too() -> None:
    previous, new = token(), id_token(**{**CLAIMS, "sub": "other"})
    carried = refreshed(previous, access_token=None, id_token=new)
    assert (carried.carried, carried.extra["id_token"]) == (True, new)
    carried = refreshed(previous, access_token=None, id_token="opaque")
    assert (carried.carried, carried.extra) == (True, previous.extra)
