"""The provider's own word in an authorization response: cleaned, explained, and never a token."""

from __future__ import annotations

import pytest

from oauth_connect.errors import CallbackRefused
from oauth_connect.protocol.grants.authorization_errors import (
    INTERACTION,
    SETTINGS,
    TRANSIENT,
    clean_code,
    refusal_of,
)
from oauth_connect.protocol.grants.callback import Callback, check_issuer, read_callback
from oauth_connect.protocol.provider import Provider

pytestmark = pytest.mark.once
REDIRECT_URI = "https://app.example/oauth/acme/callback/"


def provider(**more):
    entry = {
        "client_id": "client",
        "authorization_endpoint": "https://id.example/authorize",
        "token_endpoint": "https://id.example/token",
    }
    return Provider.from_mapping("acme", {**entry, **more})


def refused(error, description="", **more):
    callback = read_callback([("error", error), ("error_description", description), ("state", "s")])
    found = refusal_of(provider(**more), callback, REDIRECT_URI)
    assert isinstance(found, CallbackRefused)
    return found


@pytest.mark.parametrize(
    "word",
    [
        *SETTINGS,
        *TRANSIENT,
        *INTERACTION,
        "access_denied",
        "user_cancelled_login",
        "AccessDenied",
        "AADSTS65004",
        "admin_policy_enforced",
        "login.failed",
        "not-allowed",
        "error_404",
    ],
)
def test_an_error_code_is_kept(word):
    assert clean_code(word) == word


@pytest.mark.parametrize(
    "word",
    [
        "gho_16C7e42F292c6912E7710c838347Ae178B4a",
        "ya29.a0AfH6SMBx-3k",
        "d41d8cd98f00b204e9800998ecf8427e",
        "xoxb-123456789012-1234567890123",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "V1StGXR8Z5jdHi6BmyT",
        "abcdefghijklmnopqrstuvwxyzabc",
        "<script>",
        "two words",
        "a_" * 40,
        "",
    ],
)
def test_what_may_be_a_token_is_not(word):
    assert clean_code(word) == "other_error"


@pytest.mark.parametrize("error", SETTINGS)
def test_a_misconfiguration_names_the_setting_and_the_redirect_uri(error):
    found = refused(error, "The app does not fit.")

    assert (found.code, found.error) == ("authorization_failed", error)
    for part in (error, "'acme'", SETTINGS[error], REDIRECT_URI, "The app does not fit."):
        assert part in str(found)


@pytest.mark.parametrize("error", TRANSIENT)
def test_a_temporary_error_says_to_try_later(error):
    found = refused(error)

    assert (found.code, found.error) == ("authorization_failed", error)
    assert "Try again later" in str(found)


@pytest.mark.parametrize("error", INTERACTION)
def test_an_error_of_openid_says_that_the_user_must_be_asked(error):
    assert "prompt=none" in str(refused(error))


def test_an_unknown_error_names_the_setting_that_translates_it():
    found = refused("user_cancelled_login")

    assert (found.code, found.error) == ("authorization_failed", "user_cancelled_login")
    assert "callback.errors" in str(found)


def test_a_providers_word_for_a_refusal_is_translated_by_data():
    callback = {"errors": {"user_cancelled_login": "access_denied", "E7": "invalid_scope"}}

    found = refused("user_cancelled_login", callback=callback)
    assert (found.code, found.error) == ("access_denied", "user_cancelled_login")
    found = refused("E7", callback=callback)
    assert (found.code, found.error) == ("authorization_failed", "E7")
    assert SETTINGS["invalid_scope"] in str(found)


def test_the_description_is_one_short_line_without_secrets():
    found = refused("invalid_request", f"code=s3cr3t-{'x' * 500}\n\x1b[31mnext line")

    assert "s3cr3t" not in str(found)
    assert "\n" not in str(found)
    assert "\x1b" not in str(found)
    assert len(str(found)) < 900


def test_a_word_that_may_be_a_token_is_nowhere_in_the_error():
    found = refused("gho_16C7e42F292c6912E7710c838347Ae178B4a")

    assert found.error == "other_error"
    assert "gho_" not in str(found)


def test_a_response_without_code_and_error_says_so():
    found = refusal_of(provider(), Callback(state="s"), REDIRECT_URI)

    assert (found.code, found.error) == ("authorization_failed", "")
    assert "authorization_endpoint" in str(found)


def test_a_response_with_a_description_alone_quotes_it():
    callback = Callback(state="s3cr3t-state", error_description="No app s3cr3t-state")
    said = str(refusal_of(provider(), callback, REDIRECT_URI))

    assert "The provider says: No app" in said
    assert "s3cr3t-state" not in said


@pytest.mark.parametrize(
    ("word", "code", "text"),
    [
        ("ACCESS_DENIED", "access_denied", "You did not give access"),
        ("Invalid_Scope", "authorization_failed", SETTINGS["invalid_scope"]),
        ("SERVER_ERROR", "authorization_failed", "Try again later"),
    ],
)
def test_a_code_of_the_rfc_may_be_in_capitals(word, code, text):
    found = refused(word)

    assert (found.code, found.error) == (code, word)
    assert text in str(found)


def test_a_foreign_issuer_and_the_expected_one_are_named():
    with pytest.raises(CallbackRefused) as caught:
        check_issuer(provider(issuer="https://id.example"), f"https://evil.test/{'x' * 900}")

    assert "https://id.example" in str(caught.value)
    assert "https://evil.test" in str(caught.value)
    assert len(str(caught.value)) < 500
