"""Requests to an authorization server. No sockets."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from oauth_connect.protocol.grants.bodies import Body
from oauth_connect.protocol.grants.requests import (
    Parameters,
    authorization_url,
    code_request,
    device_token_request,
    new_code_verifier,
    refresh_request,
    revocation_request,
)
from oauth_connect.protocol.token import Token
from tests.protocol.providers import acme

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CALLBACK = "https://app.example/oauth/acme/callback/?tenant=a%20b&x=%C3%A9"


def authorize(**changes: Any) -> dict[str, list[str]]:
    query = urlsplit(url_for(**changes)).query
    return parse_qs(query, keep_blank_values=True)


def url_for(scopes=(), nonce: str = "", verifier: str = "v" * 64, **quirks: Any) -> str:
    return authorization_url(
        acme(**quirks),
        redirect_uri=CALLBACK,
        state="the state",
        scopes=scopes,
        code_verifier=verifier,
        nonce=nonce,
    )


# --- the authorization request ------------------------------------------------------------------


@pytest.mark.compliance("A5")
def test_a_verifier_is_fresh_and_well_formed() -> None:
    verifiers = {new_code_verifier() for _ in range(50)}
    assert len(verifiers) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) for verifier in verifiers)


@pytest.mark.compliance("A5")
@pytest.mark.compliance("A6")
@pytest.mark.compliance("B2")
def test_the_challenge_is_the_unpadded_hash_of_the_verifier() -> None:
    verifier = new_code_verifier()
    asked = authorize(verifier=verifier)
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    assert asked["code_challenge"] == [digest.rstrip(b"=").decode()]
    assert asked["code_challenge_method"] == ["S256"]
    assert verifier not in url_for(verifier=verifier)


@pytest.mark.compliance("A6")
def test_without_pkce_neither_request_speaks_of_it() -> None:
    off = {"authorize": {"code_challenge_method": "none", "without_pkce_because": "refused there"}}
    assert not {"code_challenge", "code_challenge_method"} & authorize(**off).keys()
    body = code_request(acme(**off), code="c", redirect_uri=CALLBACK, code_verifier="v")
    assert "code_verifier" not in body


def test_a_space_in_the_authorization_url_is_percent_encoded() -> None:
    url = url_for(
        scopes=["read", "write"],
        authorization_endpoint="https://id.example/a+b?realm=a+b%2Bc&name=%C3%A9~",
        authorize={"params": {"claims": "one + two", "prompt": "login consent"}},
    )
    path, _, query = url.partition("?")
    assert path == "https://id.example/a+b"
    assert "+" not in query
    assert {"scope=read%20write", "prompt=login%20consent", "claims=one%20%2B%20two"} <= set(query.split("&"))
    assert {"realm=a%20b%2Bc", "name=%C3%A9~", "state=the%20state"} <= set(query.split("&"))


def test_the_authorization_request_says_each_thing_once() -> None:
    asked = authorize(
        scopes=["read", "write"],
        nonce="the nonce",
        authorization_endpoint="https://id.example/authorize?tenant=a%2Fb",
        authorize={"params": {"access_type": "offline"}},
    )
    assert all(len(values) == 1 for values in asked.values())
    assert {name: value for name, (value,) in asked.items() if not name.startswith("code_")} == {
        "tenant": "a/b",
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": CALLBACK,
        "scope": "read write",
        "state": "the state",
        "nonce": "the nonce",
        "access_type": "offline",
    }


@pytest.mark.compliance("A40")
def test_no_scope_is_asked_for_where_none_is_named() -> None:
    assert "scope" not in authorize()
    assert "nonce" not in authorize()


def test_scopes_go_out_as_the_provider_wants_them() -> None:
    quirks = {"scope_parameter": "user_scope", "scope_separator": ","}
    asked = authorize(scopes=["a", "b"], authorize=quirks)
    assert asked["user_scope"] == ["a,b"]
    assert "scope" not in asked


def test_further_scopes_go_out_in_parameters_of_their_own() -> None:
    extra = {"user_scope": ["c", "d"], "optional_scope": []}
    asked = authorize(scopes=["a", "b"], authorize={"scope_separator": ",", "extra_scopes": extra})
    assert (asked["scope"], asked["user_scope"]) == (["a,b"], ["c,d"])
    assert "optional_scope" not in asked


def test_the_client_is_named_once_in_the_parameter_that_the_provider_wants() -> None:
    asked = authorize(
        authorization_endpoint="https://id.example/?my_client_id=x",
        authorize={"client_id_parameter": "client_key", "params": {"note": "&client_id=y"}},
    )
    assert (asked["client_key"], asked["my_client_id"]) == (["client"], ["x"])
    assert asked["note"] == ["&client_id=y"]
    assert "client_id" not in asked


def test_the_name_of_the_challenge_s_method_may_be_in_lower_case() -> None:
    usual, lower = authorize(), authorize(authorize={"code_challenge_method": "s256"})
    assert lower.pop("code_challenge_method") == ["s256"]
    assert lower == {name: value for name, value in usual.items() if name != "code_challenge_method"}
    body = code_request(
        acme(authorize={"code_challenge_method": "s256"}), code="c", redirect_uri="", code_verifier="v"
    )
    assert body["code_verifier"] == "v"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8000/authorize", "http://localhost/authorize"])
def test_an_authorization_server_on_loopback_keeps_its_http(endpoint: str) -> None:
    assert url_for(authorization_endpoint=endpoint).startswith(f"{endpoint}?")


# --- token requests -----------------------------------------------------------------------------


@pytest.mark.compliance("A11")
@pytest.mark.compliance("B7")
def test_the_exchange_repeats_the_redirect_uri_and_shows_the_verifier() -> None:
    body = code_request(acme(), code="the c&=de", redirect_uri=CALLBACK, code_verifier="v" * 64)
    assert body == {
        "grant_type": "authorization_code",
        "code": "the c&=de",
        "redirect_uri": CALLBACK,
        "code_verifier": "v" * 64,
    }


@pytest.mark.parametrize("secret", ["a+b&c=d %2B", "a/~", "x" * 32_768])
def test_a_refresh_sends_the_token_as_it_is(secret: str) -> None:
    body = refresh_request(acme(), token=Token(secret, NOW, refresh_token=secret))
    assert body == {"grant_type": "refresh_token", "refresh_token": secret}


def test_a_providers_own_parameters_are_added() -> None:
    provider = acme(token_request={"params": {"audience": "x"}, "refresh_params": {"resource": "y"}})
    assert code_request(provider, code="c", redirect_uri="r", code_verifier="v")["audience"] == "x"
    assert refresh_request(provider, token=Token("a", NOW, "r"))["resource"] == "y"


def test_a_parameter_whose_variable_has_no_value_is_left_out() -> None:
    variables = {"shop": {"source": "callback", "pattern": "[a-z]+"}}
    rules = {"params": {"shop": "{shop}"}, "refresh_params": {"shop": "{shop}", "fixed": "1"}}
    unresolved = acme(variables=variables, token_request=rules)
    assert "shop" not in device_token_request(unresolved, "device")
    assert "shop" not in code_request(unresolved, code="c", redirect_uri=CALLBACK, code_verifier="v")
    refresh = refresh_request(unresolved, token=Token("a", NOW, "r"))
    assert ("shop" in refresh, refresh["fixed"]) == (False, "1")


def test_a_refresh_repeats_the_redirect_uri_where_the_provider_wants_it() -> None:
    provider = acme(token_request={"repeat_redirect_uri_on_refresh": True})
    body = refresh_request(provider, token=Token("a", NOW, "r"), redirect_uri=CALLBACK)
    assert body["redirect_uri"] == CALLBACK


@pytest.mark.compliance("A34")
@pytest.mark.parametrize(
    ("refresh_token", "named", "sent"),
    [
        ("refresh", "refresh_token", {"token": "refresh", "token_type_hint": "refresh_token"}),
        ("refresh", "access_token", {"token": "access", "token_type_hint": "access_token"}),
        ("", "refresh_token", {"token": "access", "token_type_hint": "access_token"}),
    ],
)
def test_a_revocation_names_the_token_that_ends_the_grant(refresh_token, named, sent) -> None:
    provider = acme(revocation={"token": named})
    assert revocation_request(provider, Token("access", NOW, refresh_token)) == sent


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("kind", [Parameters, Body])
def test_messages_show_names_and_no_values(kind) -> None:
    shown = repr(kind(access_token="canary", code="canary"))
    assert "canary" not in shown
    assert "access_token" in shown
