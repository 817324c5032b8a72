"""Scopes that a server grants under another name, as an umbrella, implied by another, or in another case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.grants.responses import Body
from oauth_connect.protocol.grants.scopes import consented_scopes, cover, granted_scopes, without_refused
from oauth_connect.protocol.token import Token
from tests.protocol.providers import acme

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
UMBRELLA = {"scope_aliases": {"user": ["read:user", "user:email"], "read:user": ["read:name"]}}
RENAMED = {"scope_aliases": {"email": ["https://a.example/email"], "https://a.example/email": ["email"]}}
ANY_CASE = {"token_response": {"scopes_ignore_case": True}}
LISTS_ALL = {"token_response": {"lists_all_scopes": True}}


def token(scope: Any, requested: tuple[str, ...] = ("a", "b"), **quirks: Any) -> Token:
    body = Body({"access_token": "t", "token_type": "Bearer", "scope": scope})
    return responses.token_from(acme(**quirks), 200, body, obtained_at=NOW, requested_scopes=requested)


def consent(scope: Any, said: str | None = None, requested: Any = ("a", "b"), **quirks: Any) -> list[str]:
    callback = [] if said is None else [("state", "a"), ("scope", said)]
    return consented_scopes(acme(**quirks), token(scope, requested, **quirks), requested, callback)


# --- what includes what -------------------------------------------------------------------------------


@pytest.mark.compliance("A17")
@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        (["user"], ["user:email"], True),
        (["user"], ["user", "read:user", "user:email"], True),
        (["user"], ["read:name"], True),  # of what it includes
        (["read:user"], ["user"], False),  # never upwards
        (["user:email"], ["read:user"], False),
        (["user"], ["User:email"], False),
        ([], ["user"], False),
        ([], [], True),
        (["other"], ["other"], True),
    ],
)
def test_a_scope_includes_what_the_entry_says_and_what_that_includes(granted, wanted, covered) -> None:
    assert cover(acme(**UMBRELLA), granted, wanted) is covered


def test_scopes_that_include_one_another_are_the_same() -> None:
    circle = acme(scope_aliases={"a": ["b"], "b": ["c"], "c": ["a"], "d": ["d"]})
    assert cover(circle, ["b"], ["a", "b", "c"])
    assert not cover(circle, ["b"], ["d"])


def test_case_makes_no_difference_only_where_the_entry_says_so() -> None:
    assert cover(acme(**ANY_CASE), ["User.Read"], ["user.read"])
    assert not cover(acme(), ["User.Read"], ["user.read"])
    spelled = acme(**ANY_CASE, scope_aliases={"mail.all": ["Mail.Read"], "Mail.All": ["Mail.Send"]})
    assert cover(spelled, ["MAIL.ALL"], ["mail.read", "mail.send"])


@pytest.mark.parametrize("aliases", [{"a b": ["c"]}, {"a": ["b c"]}, {"": ["a"]}, {"a": [""]}])
def test_an_alias_that_is_not_one_scope_is_refused(aliases) -> None:
    with pytest.raises(InvalidProvider, match=r"acme\.scope_aliases\..*is not one scope"):
        acme(scope_aliases=aliases)


def test_a_string_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(InvalidProvider, match=r"acme\.scope_aliases\.user: expected a list"):
        acme(scope_aliases={"user": "user:email"})


# --- what was granted ---------------------------------------------------------------------------------


@pytest.mark.compliance("A17", "D28")
@pytest.mark.parametrize(
    ("quirks", "requested", "said", "granted"),
    [
        (UMBRELLA, ("user", "user:email"), "user", ("user",)),
        (UMBRELLA, ("user:email",), "user", ("user:email",)),  # never wider than requested
        (UMBRELLA, ("user",), "user:email read:name", ("user:email", "read:name")),  # a part of it
        (UMBRELLA, ("user:email",), "read:user", ()),
        (RENAMED, ("email",), "https://a.example/email openid", ("email",)),
        (RENAMED, ("email",), ["https://a.example/email", "email"], ("email",)),
        (ANY_CASE, ("user.read",), "User.Read profile", ("user.read",)),
        ({}, ("user.read",), "User.Read profile", ()),
    ],
)
def test_a_granted_scope_bears_the_name_under_which_it_was_requested(quirks, requested, said, granted):
    assert granted_scopes(acme(**quirks), said, requested) == granted


def test_where_wider_scopes_count_they_keep_the_servers_names() -> None:
    wider = {**RENAMED, "token_response": {"wider_scopes": True, "scopes_ignore_case": True}}
    assert granted_scopes(acme(**wider), "https://a.example/email Admin READ", ("email", "read")) == (
        "https://a.example/email",
        "Admin",
        "read",
    )


# --- what the user consented to -----------------------------------------------------------------------


@pytest.mark.compliance("A17")
@pytest.mark.parametrize("scope", ["a", "", None, "A B", ["x"], "a,b", 5])
def test_a_scope_that_a_response_leaves_out_is_no_visible_refusal(scope) -> None:
    assert consent(scope) == ["a", "b"]


@pytest.mark.parametrize(
    ("scope", "consented"),
    [("a", ["a"]), ("b a", ["a", "b"]), ("x", []), (None, ["a", "b"]), ("", ["a", "b"])],
)
def test_a_response_that_lists_all_scopes_shows_a_refusal(scope, consented) -> None:
    assert consent(scope, **LISTS_ALL) == consented


def test_a_renamed_scope_in_such_a_response_is_not_refused() -> None:
    assert consent("https://a.example/email", requested=("email", "b"), **LISTS_ALL, **RENAMED) == ["email"]


@pytest.mark.parametrize("said", ["a c", "a,c", "a, c", "c a", "a;c"])
def test_the_callback_shows_a_refusal_where_the_token_response_names_no_scope(said) -> None:
    separated = {"authorize": {"scope_separator": ";"}}
    assert consent(None, said, **separated) == ["a"]
    assert consent("", said, **separated) == ["a"]
    assert consent("a b", said, **separated) == ["a", "b"]


@pytest.mark.parametrize("said", ["", " ", ","])
def test_a_callback_with_an_empty_scope_says_nothing(said) -> None:
    assert consent(None, said) == ["a", "b"]  # RFC 6749 section 3.1: as if it were omitted


@pytest.mark.parametrize(
    "said", ["c", "https://id.example/a https://id.example/b", "a%20b", "A B"], ids=lambda said: said
)
def test_a_callback_that_writes_the_scopes_otherwise_shows_no_refusal(said) -> None:
    assert consent(None, said) == ["a", "b"]


def test_the_callback_is_read_without_case() -> None:
    assert consent(None, "A") == ["a"]


def test_a_provider_without_a_separator_has_one_scope_in_the_callback() -> None:
    assert consent(None, "read", requested=("read",), authorize={"scope_separator": ""}) == ["read"]


def test_the_callback_is_read_with_the_aliases_too() -> None:
    requested = ("user:email", "gist")
    assert consent(None, "user", requested=requested, **UMBRELLA) == ["user:email"]


@pytest.mark.compliance("A17")
def test_the_callback_narrows_what_is_assumed_and_widens_nothing() -> None:
    assumed, unknown, named = token(None), token(""), token("a")
    assert without_refused(assumed, ["a"]).scopes == ("a",)
    assert without_refused(unknown, ["a"]).scopes == ()
    assert without_refused(named, ["a", "b"]).scopes == ("a",)
    assert without_refused(named, []).scopes == ("a",)  # the token response is the provider's word


# --- a refresh ----------------------------------------------------------------------------------------


def refreshed(before: tuple[str, ...], scope: Any, **quirks: Any) -> tuple[str, ...]:
    previous = Token("old", NOW, refresh_token="r", scopes=before)
    body = Body({"access_token": "t", "token_type": "Bearer", **({} if scope is ... else {"scope": scope})})
    new = responses.refreshed(acme(**quirks), 200, body, previous=previous, obtained_at=NOW)
    return new.scopes


@pytest.mark.compliance("A17", "C-empty-scope")
@pytest.mark.parametrize("scope", [..., None, "", " ", [], [None], {}, 5])
def test_a_refresh_that_names_no_scope_leaves_them_as_they_were(scope) -> None:
    assert refreshed(("a", "b"), scope) == ("a", "b")
    assert refreshed((), scope) == ()


@pytest.mark.compliance("A17")
def test_a_refresh_narrows_and_does_not_widen() -> None:
    assert refreshed(("a", "b"), "a") == ("a",)
    assert refreshed(("a",), "a b") == ("a",)
    assert refreshed(("a",), "x") == ()


def test_a_refresh_writes_a_scope_as_before() -> None:
    assert refreshed(("user.read",), "User.Read", **ANY_CASE) == ("user.read",)
    assert refreshed(("email",), "https://a.example/email", **RENAMED) == ("email",)


def test_whether_a_response_named_scopes_makes_no_other_token() -> None:
    assert replace(token("a"), names_scopes=False) == token("a")
    assert Token.from_dict(token("a").to_dict()) == token("a")
