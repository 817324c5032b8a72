"""What the fake provider remembers, without HTTP: what it cannot show with one client and its own clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from oauth_connect.testing.server.devices import DeviceCodes
from oauth_connect.testing.server.grants import CODE_LIFETIME, Grants, challenge_of
from oauth_connect.testing.server.messages import Account, AuthorizationRequest, Decision, Refused
from oauth_connect.testing.server.rules import Rules
from tests.support.clock import Clock

OCTOCAT, HUBOT = Account.named("octocat"), Account.named("hubot")
CALLBACK = "https://app.example/callback/"
VERIFIER = "a-verifier-of-the-tests-with-at-least-43-characters"
RULES = Rules()


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def grants(clock: Clock) -> Grants:
    return Grants(3600, clock)


def code_of(grants: Grants, verifier: str = VERIFIER) -> str:
    challenge = challenge_of(verifier) if verifier else ""
    request = AuthorizationRequest(client_id="client", redirect_uri=CALLBACK, challenge=challenge)
    return grants.new_code(request, OCTOCAT, ["read"])


def redeem(
    grants: Grants, code: str, client_id: str = "client", rules: Rules = RULES, **changes: str
) -> None:
    given = {"code": code, "redirect_uri": CALLBACK, "verifier": VERIFIER, **changes}
    grants.redeem(rules, client_id=client_id, **given)


def refused(error: str, call: Callable[[], object]) -> None:
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.error == error


def tokens(
    grants: Grants, account: Account = OCTOCAT, client_id: str = "client", rules: Rules = RULES
) -> str:
    """Return the access token of a new grant."""
    return str(grants.issue(grants.new_grant(rules, account, ["read"], client_id))["access_token"])


def test_the_challenge_is_that_of_rfc_7636() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # appendix B
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_code_expires(grants: Grants, clock: Clock) -> None:
    code = code_of(grants)
    clock.now += CODE_LIFETIME
    refused("invalid_grant", lambda: redeem(grants, code))


def test_a_code_of_another_client_is_refused_and_not_spent(grants: Grants) -> None:
    code = code_of(grants)
    refused("invalid_grant", lambda: redeem(grants, code, client_id="other"))
    redeem(grants, code)


def test_a_verifier_without_a_challenge_is_refused(grants: Grants) -> None:
    """Else an attacker could remove the challenge from the request unnoticed (RFC 9700 section 4.8)."""
    code = code_of(grants, verifier="")
    refused("invalid_grant", lambda: redeem(grants, code))
    redeem(grants, code, verifier="")


def test_a_redirect_uri_may_be_missing_where_the_entry_leaves_it_out(grants: Grants) -> None:
    code = code_of(grants)
    without = {"code": code, "redirect_uri": None, "client_id": "client", "verifier": VERIFIER}
    refused("invalid_grant", lambda: grants.redeem(RULES, **without))
    grants.redeem(replace(RULES, needs_redirect_uri=False), **without)


def test_a_refresh_token_of_another_client_is_refused_and_not_spent(grants: Grants) -> None:
    grant = grants.new_grant(RULES, OCTOCAT, ["read"], "client")
    token = grants.issue(grant)["refresh_token"]
    asked = {"refresh_token": token, "scopes": None}
    refused("invalid_grant", lambda: grants.refresh(RULES, client_id="other", **asked))
    assert grants.refresh(RULES, client_id="client", **asked)[0] is grant


def test_a_provider_that_does_not_rotate_takes_one_refresh_token_again_and_again(grants: Grants) -> None:
    rules = replace(RULES, rotates=False)
    token = grants.issue(grants.new_grant(rules, OCTOCAT, [], "client"))["refresh_token"]
    for _ in range(3):
        _, response = grants.refresh(rules, refresh_token=token, client_id="client", scopes=None)
        assert "refresh_token" not in response


def test_an_access_token_expires_unless_the_providers_never_do(grants: Grants, clock: Clock) -> None:
    expiring, lasting = tokens(grants), tokens(grants, rules=replace(RULES, tokens_expire=False))
    clock.now += 3600
    assert [grants.holds(one) for one in (expiring, lasting)] == [False, True]


def test_a_valid_access_token_is_exchanged_and_an_expired_one_is_not(grants: Grants, clock: Clock) -> None:
    first = tokens(grants, rules=replace(RULES, issues_refresh_tokens=False))
    _, response = grants.exchange(access_token=first)
    assert grants.holds(response["access_token"])
    clock.now += 3600
    refused("invalid_grant", lambda: grants.exchange(access_token=first))


def test_a_revocation_ends_what_the_entry_says(grants: Grants) -> None:
    expected = {
        "token": [True, True, True, True],
        "family": [False, True, True, True],
        "grant": [False, False, True, True],
        "account": [False, False, False, True],
    }
    for revokes, left in expected.items():
        rules = replace(RULES, revokes=revokes)
        revoked, sibling = tokens(grants), tokens(grants)
        others = [tokens(grants, client_id="other"), tokens(grants, HUBOT)]
        second = grants.issue(grants.grant_of(revoked))["access_token"]
        grants.revoke(rules, revoked)
        assert not grants.holds(revoked)
        assert [grants.holds(one) for one in (second, sibling, *others)] == left, revokes


def test_a_device_code_of_another_client_is_refused_and_not_spent() -> None:
    codes = DeviceCodes()
    code = codes.start("client", ["read"])
    codes.decide(code, Decision(account=OCTOCAT))
    refused("invalid_grant", lambda: codes.poll(code.device_code, "other"))
    assert codes.poll(code.device_code, "client") == (Decision(account=OCTOCAT), ("read",))


def test_a_decided_device_code_is_not_shown_again() -> None:
    codes = DeviceCodes()
    code = codes.start("client", [])
    assert codes.shown(code.user_code.lower().replace("-", " ")) is code
    codes.decide(code, Decision())
    assert codes.shown(code.user_code) is None
