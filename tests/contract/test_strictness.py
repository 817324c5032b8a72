"""The suite itself: what differs from a golden exchange is found, and told."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
import requests

from oauth_connect import presets
from tests.contract.golden import Facts, load
from tests.contract.matching import Asked, authorization_differences, differences
from tests.contract.play import Play
from tests.contract.server import EveryProvider

pytestmark = pytest.mark.once

URL = "https://id.example/token"
DOCUMENTS_OF_USERS = {"identity", "userinfo_endpoint"}


@pytest.mark.parametrize("name", presets.names())
def test_a_document_that_nobody_has_verified_is_marked_as_assumed(name: str) -> None:
    about = presets.about(name)
    assert about
    if not DOCUMENTS_OF_USERS & set(about.unverified):
        return
    answers = [step["answer"] for step in load(name)["connect"][1:] if "json" in step["answer"]]
    assert all(answer.get("shape") == "assumed" for answer in answers)


EXPECTED = {
    "method": "POST",
    "url": URL,
    "body": "form",
    "client": "post",
    "headers": {"Accept": {"like": "json"}, "Authorization": None},
    "parameters": {"grant_type": "authorization_code", "code": "{code}"},
}
AUTHORIZATION = {
    "url": "https://id.example/<version>/authorize",
    "parameters": {"prompt": "consent"},
    "pkce": "sent",
    "scope": {"parameter": "scope", "separator": ",", "asked": ["a", "b"]},
}
GOOD_URL = (
    "https://id.example/v2.0/authorize?response_type=code&client_id=id&redirect_uri=https%3A%2F%2Fapp&prompt=consent"
    "&state=aaaaaaaaaaaaaaaaaaaaaaaa&scope=a%2Cb&code_challenge=x&code_challenge_method=S256"
)


@pytest.fixture
def facts() -> Facts:
    return Facts({"client_id": "id", "client_secret": "secret", "code": "c", "redirect_uri": "https://app"})


def asked(body: str, **headers: str) -> Asked:
    named = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json", **headers}
    return Asked("POST", URL, "", named, body.encode())


GOOD = "grant_type=authorization_code&code=c&client_id=id&client_secret=secret"
BASIC = f"Basic {b64encode(b'id:secret').decode()}"


def test_a_request_as_it_should_be_passes(facts: Facts) -> None:
    assert differences(asked(GOOD), EXPECTED, facts) == []


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (asked(f"{GOOD}&audience=x"), "parameter audience: 'x' was not expected"),
        (asked(f"{GOOD}&code=c"), "parameter code: repeated"),
        (asked(f"{GOOD}&code_verifier=v"), "parameter code_verifier: sent, but there was no code_challenge"),
        (asked(GOOD.replace("code=c", "code=d")), "parameter code: 'd', expected 'c'"),
        (asked(GOOD.replace("&code=c", "")), "parameter code: missing, expected 'c'"),
        (asked(GOOD.replace("&client_secret=secret", "")), "client authentication: id, expected post"),
        (asked(GOOD.replace("secret=secret", "secret=other")), "client authentication: post with other"),
        (asked(GOOD, authorization=BASIC), "client authentication: basic and post, expected post"),
        (
            asked(GOOD.replace("secret=secret", "x=1"), authorization=BASIC),
            "authentication: basic and id, expected",
        ),
        (asked(GOOD, accept="*/*"), "header Accept: '*/*', expected something like /json/"),
        (asked("{}", **{"content-type": "application/json"}), "travel as 'json', expected 'form'"),
        (Asked("POST", URL, "x=1", asked(GOOD).headers, GOOD.encode()), "query: parameter x: '1'"),
    ],
)
def test_a_request_that_differs_is_reported(request_: Asked, told: str, facts: Facts) -> None:
    assert any(told in one for one in differences(request_, EXPECTED, facts))


def test_a_verifier_must_fit_its_challenge(facts: Facts) -> None:
    facts.values["code_challenge"] = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # RFC 7636, appendix B
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert differences(asked(f"{GOOD}&code_verifier={verifier}"), EXPECTED, facts) == []
    for other in (f"{GOOD}&code_verifier=other", GOOD):
        [told] = differences(asked(other), EXPECTED, facts)
        assert "code_verifier" in told


def test_an_authorization_url_as_it_should_be_passes(facts: Facts) -> None:
    assert authorization_differences(GOOD_URL, AUTHORIZATION, facts) == []
    assert facts.scopes == ("a", "b")


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("id.example", "evil.example", "URL:"),
        ("/v2.0/", "/x/v2.0/", "URL:"),
        ("response_type=code", "response_type=token", "parameter response_type"),
        ("&prompt=consent", "", "parameter prompt: missing"),
        ("a%2Cb", "a+b", "parameter scope"),
        ("a%2Cb", "a", "lacks b"),
        ("a%2Cb", "a%2Cb%2Cadmin", "asks for more"),
        ("&code_challenge=x&code_challenge_method=S256", "", "parameter code_challenge: missing"),
        ("S256", "plain", "parameter code_challenge_method"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "1", "parameter state"),
        ("&prompt", "&client_secret=s&prompt", "parameter client_secret: 's' was not expected"),
    ],
)
def test_an_authorization_url_that_differs_is_reported(
    was: str, becomes: str, told: str, facts: Facts
) -> None:
    [*found] = authorization_differences(GOOD_URL.replace(was, becomes), AUTHORIZATION, facts)

    assert any(told in one for one in found)


def test_a_host_that_has_no_part_in_the_exchange_cannot_be_reached(server: EveryProvider) -> None:
    server.begin(Facts(), frozenset({"id.example"}))

    with pytest.raises(AssertionError, match=r"a connection to elsewhere\.example:443"), server.playing([]):
        requests.get("https://elsewhere.example/", timeout=5)


@pytest.mark.django_db
def test_what_is_asked_for_unasked_and_what_is_not_are_both_told(play: Callable[[str], Play]) -> None:
    golden: Any = play("github").golden
    server = play("github").server
    [token, user] = golden["connect"]

    with pytest.raises(AssertionError, match=r"api\.github\.com/user: was not expected"), server.playing([]):
        requests.get("https://api.github.com/user", timeout=5)
    with (
        pytest.raises(AssertionError, match=r"never asked: POST https://github\.com"),
        server.playing([token]),
    ):
        pass
    with pytest.raises(AssertionError, match="header Authorization: None"), server.playing([user]):
        requests.get("https://api.github.com/user", timeout=5)
