from __future__ import annotations

import time
from urllib.parse import urljoin, urlsplit

import pytest
from django.core import signing
from hypothesis import given
from hypothesis import strategies as st

from oauth_connect.flows.paths import connect_path, local_path, signed_scopes, without_response
from oauth_connect.models import Owner
from tests.support.visitor import query_of

ADA = Owner("org:1")

HOSTILE = [
    "//e",
    "/\\e",
    "\\\\e",
    "https:///e",
    "https://e.test/",
    "http:e.test",
    "javascript:alert(1)",
    "/\t/e",
    "\t//e",
    "/a\r\nSet-Cookie: a=b",
    "/a\nb",
    "/a\x00b",
    "/a b",
    "https://app.example@e.test/",
    "https://[::1",
    "ftp://app.example/",
    "https://app.example:8443/",
    "e.test",
    "///e",
    "",
]


@pytest.mark.parametrize(
    "name", ["code", "spapi_oauth_code", "auth_code", "x-authorization-code", "state", "iss"]
)
def test_no_url_repeats_a_provider_s_response(name):
    assert without_response(f"page=2&{name}=canary&promo_code=x") == "page=2&promo_code=x"


@pytest.mark.compliance("A13", "D14", "CVE-2016-2512", "CVE-2017-7233")
@pytest.mark.parametrize("candidate", HOSTILE)
def test_what_may_lead_elsewhere_is_no_path(candidate):
    assert local_path(candidate) == ""


@pytest.mark.parametrize(
    ("candidate", "path"),
    [
        ("/", "/"),
        ("/reports/7/?page=2&sort=-name#top", "/reports/7/?page=2&sort=-name#top"),
        ("/søk/?q=å", "/s%C3%B8k/?q=%C3%A5"),
        ("/a//e", "/a//e"),
        ("/%0d%0aSet-Cookie", "/%0d%0aSet-Cookie"),
        ("/go?to=https://e.test/", "/go?to=https://e.test/"),
    ],
)
def test_a_path_of_this_site_is_kept_and_encoded(candidate, path):
    assert local_path(candidate) == path


def test_a_path_too_long_for_a_session_is_left_out():
    assert local_path("/" + "a" * 5000) == ""


@pytest.mark.compliance("A13", "D14", "CVE-2022-36087")
@given(st.one_of(st.text(), st.text("/\\:@?#[]%. \t\r\ne").map(lambda tail: f"/{tail}")))
def test_whatever_comes_leads_to_this_site_or_nowhere(candidate):
    path = local_path(candidate)

    assert path == "" or urlsplit(urljoin("https://app.example/page/", path)).netloc == "app.example"
    assert path.isascii()
    assert path.isprintable()


def test_a_string_is_not_taken_for_a_list_of_scopes():
    with pytest.raises(TypeError, match=r"pass a list such as \['repo'\]"):
        connect_path("github", scopes="repo")


def test_the_connect_path_carries_where_to_come_back_to():
    path = connect_path("scripted", next_path="/reports/?page=2")

    assert urlsplit(path).path == "/oauth/scripted/connect/"
    assert query_of(path) == {"next": "/reports/?page=2"}


def test_scopes_come_back_sorted_and_once():
    path = connect_path("scripted", scopes=["write", "read", "write"])

    assert signed_scopes(query_of(path)["scopes"], "scripted", ADA) == ["read", "write"]


@pytest.mark.compliance("A40", "B4")
@pytest.mark.parametrize(
    "value",
    ["", "admin", "admin:signed", signing.dumps(["scripted", ["admin"]], salt="another"), "é", "a:b:c\x00"],
    ids=["empty", "plain", "half signed", "signed for something else", "no ASCII", "NUL"],
)
def test_scopes_that_this_site_did_not_sign_ask_for_nothing(value):
    assert signed_scopes(value, "scripted", ADA) == []


@pytest.mark.compliance("B4")
def test_scopes_signed_for_one_provider_ask_for_nothing_at_another():
    path = connect_path("scripted", scopes=["admin"])

    assert signed_scopes(query_of(path)["scopes"], "other", ADA) == []


@pytest.mark.compliance("B4")
def test_scopes_signed_for_one_owner_ask_for_nothing_for_another():
    scopes = query_of(connect_path("scripted", scopes=["admin"], owner=ADA))["scopes"]

    assert signed_scopes(scopes, "scripted", ADA) == ["admin"]
    assert signed_scopes(scopes, "scripted", Owner("org:2")) == []


def test_signed_scopes_end_after_thirty_days(monkeypatch):
    scopes = query_of(connect_path("scripted", scopes=["admin"], owner=ADA))["scopes"]
    now = time.time()

    monkeypatch.setattr(time, "time", lambda: now + 30 * 86400 - 60)
    assert signed_scopes(scopes, "scripted", ADA) == ["admin"]
    monkeypatch.setattr(time, "time", lambda: now + 30 * 86400 + 60)
    with pytest.raises(signing.SignatureExpired):
        signed_scopes(scopes, "scripted", ADA)


def test_without_the_urls_of_this_package_there_is_no_path(settings):
    settings.ROOT_URLCONF = ()
    assert connect_path("scripted") == ""
