"""The fake provider writes and reads as the entry of each preset says, and the client agrees with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oauth_connect.errors import CallbackRefused, ProviderMisconfigured, ProviderRejected, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.device import read_device_authorization
from oauth_connect.protocol.grants import callback, refusals, requests, responses
from oauth_connect.protocol.grants.bodies import read_document
from oauth_connect.protocol.net.transport import DeadlineAdapter, Exchanged, ServerSession
from oauth_connect.protocol.paths import inside, pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import RESPONSE_FIELDS
from oauth_connect.protocol.token import Token
from oauth_connect.testing.server import Account, shapes
from oauth_connect.testing.server.shapes.patterns import text_matching
from tests.contract import golden
from tests.testing.entries import NAMES, own, provider_of

pytestmark = pytest.mark.once
every = pytest.mark.parametrize("provider", [pytest.param(provider_of(name), id=name) for name in NAMES])

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
OCTOCAT, HUBOT = Account("1", "octocat"), Account("2", "hubot")
SCOPES = ("first:read", "second.write")
RESPONSE = {
    "access_token": "the-access-token",
    "refresh_token": "the-refresh-token",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token_expires_in": 86400,
    "scope": " ".join(SCOPES),
}
TOKEN = Token("the-access-token", NOW, "the-refresh-token")


def document_of(answer: shapes.Written) -> Any:
    return read_document(answer.content_type, answer.body)


def read(provider: Provider, answer: shapes.Written) -> Token:
    return responses.token_from(
        provider, answer.status, document_of(answer), obtained_at=NOW, requested_scopes=SCOPES
    )


# --- token responses --------------------------------------------------------------------------------


def issued(provider: Provider) -> dict[str, Any]:
    """Return the fields of a token response, with an access token as this provider issues them."""
    expires_at = (NOW + timedelta(hours=1)).timestamp()
    return {**RESPONSE, "access_token": shapes.new_access_token(provider, "opaque", expires_at)}


@every
def test_the_client_reads_the_token_that_was_issued(provider):
    response = issued(provider)

    token = read(provider, shapes.token_answer(provider, response, OCTOCAT, now=NOW))

    assert token.access_token == response["access_token"]
    assert token.scopes == SCOPES
    assert token.names_scopes
    expires = shapes.tokens_expire(provider)
    assert token.expires_at == (NOW + timedelta(hours=1) if expires else None)


@every
def test_the_client_reads_the_refresh_token_where_the_provider_issues_one(provider):
    token = read(provider, shapes.token_answer(provider, issued(provider), OCTOCAT, now=NOW))

    has_one = shapes.issues_refresh_tokens(provider)
    assert token.refresh_token == ("the-refresh-token" if has_one else "")
    assert token.refresh_token_expires_at == (NOW + timedelta(days=1) if has_one else None)
    assert has_one or provider.refresh.rotation != "always"


@every
def test_a_token_response_has_fields_only_where_the_documented_one_has_them(provider):
    """The golden exchanges are written by hand from the documentation, and never from a preset."""
    documented = next(
        exchange["answer"]["json"]
        for exchange in golden.load(provider.slug)["connect"]
        if "json" in exchange["answer"]
    )

    answer = shapes.token_answer(provider, issued(provider), OCTOCAT)

    fields = {*paths_in(document_of(answer))} - {*paths_in(documented)}
    rules = provider.token_response
    optional = {rules.name_of(name) for name in ("scope", "expires_in", "refresh_token")}
    optional.add(rules.refresh_token_expires_in)
    assert {path.rpartition(".")[2] for path in fields} <= optional


def paths_in(document: Any, above: tuple[str, ...] = ()) -> list[str]:
    made = isinstance(document, Mapping) and any(key.startswith("$") for key in document)
    if isinstance(document, Mapping) and not made:
        return [path for key, value in document.items() for path in paths_in(value, (*above, key))]
    if isinstance(document, list) and document and isinstance(document[0], Mapping):
        return paths_in(document[0], (*above, "0"))
    return [".".join(above)]


def test_tokens_do_not_expire_where_nothing_could_replace_them():
    kept = {name for name in NAMES if not shapes.tokens_expire(provider_of(name))}

    assert {"intercom", "mailchimp", "mastodon"} <= kept
    assert kept.isdisjoint({"facebook", "instagram", "google", "github", "slack"})
    assert all(provider_of(name).refresh.expected == "never" for name in kept)


def test_a_form_is_written_where_json_is_not_asked_for():
    github = provider_of("github")

    answer = shapes.token_answer(github, RESPONSE, OCTOCAT, accept="*/*")

    assert answer.content_type == "application/x-www-form-urlencoded"
    assert read(github, answer).scopes == SCOPES
    assert shapes.token_answer(github, RESPONSE, OCTOCAT).content_type == "application/json"


@pytest.mark.parametrize("unit", ["epoch_seconds", "epoch_milliseconds", "iso8601"])
def test_an_expiry_is_a_point_in_time_where_the_entry_says_so(unit):
    names = {"fields": {"expires_in": "ends"}, "expires_unit": unit}
    provider = own(token_response={**names, "refresh_token_expires_unit": unit})

    token = read(provider, shapes.token_answer(provider, RESPONSE, OCTOCAT, now=NOW))

    assert token.expires_at == NOW + timedelta(hours=1)
    assert token.refresh_token_expires_at == NOW + timedelta(days=1)


def test_a_response_has_a_token_for_each_entry_that_reads_one():
    bot = provider_of("slack", token_response={"other_entries": ["slack-user"]})
    user = provider_of("slack", environment="user")
    others = [(user, {**RESPONSE, "access_token": "the-users-token", "scope": "search:read"})]

    token = read(bot, shapes.token_answer(bot, RESPONSE, OCTOCAT, others=others))
    other = responses.other_token(user, token)

    assert token.access_token == "the-access-token"
    assert other is not None
    assert (other.access_token, other.scopes) == ("the-users-token", ("search:read",))
    assert pick(other.extra, user.identity.id) == shapes.account_of(user, OCTOCAT)[0]


@pytest.mark.parametrize("name", ["apple", "google", "vercel"])
def test_an_id_token_is_for_the_sign_in_it_was_issued_for(name):
    provider = provider_of(name)
    claims = {"iss": provider.issuer, "aud": "the-client", "sub": "1", "nonce": "n"}
    expiring = {**claims, "exp": int(NOW.timestamp()) + 60}

    answer = shapes.token_answer(provider, {**RESPONSE, "id_token": expiring}, OCTOCAT)

    read_claims = responses.id_token_claims(provider, read(provider, answer), nonce="n", now=NOW)
    assert read_claims["sub"] == "1"


def test_a_provider_without_an_issuer_sends_no_id_token():
    provider = provider_of("github")

    answer = shapes.token_answer(provider, {**RESPONSE, "id_token": {"sub": "1"}}, OCTOCAT)

    assert "id_token" not in document_of(answer)


# The only errors of the RFCs that a fake provider cannot send: the entry gives the word another meaning.
OTHER_MEANING = {"atlassian": "access_denied is its word for a wrong secret. It has no device flow"}


# --- refusals ---------------------------------------------------------------------------------------


@every
def test_the_client_reads_an_ended_grant(provider):
    answer = shapes.refusal(provider, "invalid_grant", "It was used before")

    with pytest.raises(ProviderRejected) as raised:
        responses.refreshed(provider, answer.status, document_of(answer), previous=TOKEN, obtained_at=NOW)

    assert raised.value.error in provider.refresh.ended_errors
    assert refusals.ends_grant(provider, answer.status, document_of(answer))
    assert "It was used before" in raised.value.description


@every
def test_the_client_reads_a_transient_error(provider):
    for error in ("temporarily_unavailable", "server_error", "slow_down"):
        answer = shapes.refusal(provider, error)

        with pytest.raises(ProviderUnavailable) as raised:
            responses.refreshed(provider, answer.status, document_of(answer), previous=TOKEN, obtained_at=NOW)

        assert raised.value.code == error


@every
def test_the_client_reads_that_its_own_credentials_are_wrong(provider):
    answer = shapes.refusal(provider, "invalid_client", status=401)

    with pytest.raises(ProviderMisconfigured) as raised:
        read(provider, answer)

    assert raised.value.error == "invalid_client"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHER_MEANING])
def test_the_client_reads_the_errors_of_a_device_flow(name):
    for error in ("authorization_pending", "expired_token", "access_denied"):
        answer = shapes.refusal(provider_of(name), error)

        with pytest.raises(ProviderRejected) as raised:
            read(provider_of(name), answer)

        assert raised.value.error == error


def test_a_status_alone_is_a_refusal_where_the_entry_says_so():
    provider = own(token_response={"errors": {"http_403": "invalid_grant"}})

    answer = shapes.refusal(provider, "invalid_grant")

    assert answer.status == 403
    assert refusals.ends_grant(provider, answer.status, document_of(answer))


@pytest.mark.parametrize(("name", "status"), [("slack", 200), ("github", 200), ("google", 400)])
def test_an_error_has_the_status_that_this_provider_gives_it(name, status):
    assert shapes.refusal(provider_of(name), "invalid_grant").status == status


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("slack", {"ok": False, "error": "invalid_refresh_token"}),
        ("facebook", {"error": {"code": 190}}),
        ("withings", {"status": 401}),
        ("fitbit", {"errors": [{"errorType": "invalid_grant"}]}),
        ("x", {"error": "invalid_request", "error_description": "Value passed for the token"}),
    ],
)
def test_an_ended_grant_is_in_the_provider_s_own_words(name, document):
    assert json.loads(shapes.refusal(provider_of(name), "invalid_grant").body) == document


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_status_that_a_test_asks_for_stays(status):
    assert shapes.refusal(provider_of("slack"), "server_error", status=status).status == status


# --- accounts ---------------------------------------------------------------------------------------


def named_by(provider: Provider, account: Account) -> Any:
    """Return the document that names the account, as the client gets it."""
    source = provider.identity_source
    if source == "userinfo":
        return document_of(shapes.userinfo_answer(provider, account))
    if source == "introspection":
        return document_of(shapes.introspection_answer(provider, account, {}))
    if source == "callback":
        return shapes.callback_parameters(provider, {"code": "c", "state": "s"}, account=account)
    claims = {"iss": provider.issuer, "aud": "the-client", "sub": account.id}
    answer = shapes.token_answer(provider, {**RESPONSE, "id_token": claims}, account)
    token = read(provider, answer)
    return (
        token.extra if source == "token_response" else responses.id_tokens.claims_of(token.extra["id_token"])
    )


@every
def test_the_client_reads_which_account_it_is(provider):
    if provider.identity_source == "none":
        assert shapes.account_of(provider, OCTOCAT) == ("", "")
        return

    document = named_by(provider, OCTOCAT)

    account_id, label = shapes.account_of(provider, OCTOCAT)
    assert pick(document, provider.identity.id) == account_id
    assert (pick(document, provider.identity.label) or account_id) == label
    assert label in ("octocat", "octocat@example.com", account_id)


@every
def test_two_accounts_are_two_for_the_client(provider):
    ids = {shapes.account_of(provider, account)[0] for account in (OCTOCAT, HUBOT)}

    assert len(ids) == (1 if provider.identity_source == "none" else 2)


@every
def test_the_documents_name_the_variables_of_the_entry(provider):
    values = shapes.variables_of(provider, OCTOCAT)

    late = {name for name, variable in provider.variables.items() if variable.is_late}
    assert values.keys() == late
    assert all(provider.value_of(name, value) == value for name, value in values.items())
    for name in provider.asked_of("identity"):
        path = provider.variables[name].field or name
        assert provider.value_of(name, pick(named_by(provider, OCTOCAT), [path])) == values[name]
    token = read(provider, shapes.token_answer(provider, RESPONSE, OCTOCAT))
    for name in provider.asked_of("token_response"):
        path = provider.variables[name].field or name
        assert provider.value_of(name, pick(token.extra, [path])) == values[name]


LISTS_SITES = [name for name in NAMES if provider_of(name).accounts.endpoint]


@pytest.mark.parametrize("name", LISTS_SITES)
def test_the_list_of_sites_has_what_the_entry_reads(name):
    provider = provider_of(name)
    rules = provider.accounts

    first, second = inside(document_of(shapes.accounts_answer(provider, OCTOCAT, sites=2)), rules.path)

    ids = [pick(site, [rules.id]) for site in (first, second)]
    assert ids[0] != ids[1]
    assert ids[0] == shapes.variables_of(provider, OCTOCAT)[rules.variable]
    assert all(provider.value_of(rules.variable, one) == one for one in ids)
    for variable, path in rules.variables.items():
        assert provider.value_of(variable, pick(first, [path]))
    if rules.preferred:
        assert (inside(first, rules.preferred.split(".")), inside(second, [rules.preferred])) == (True, False)


def test_a_document_may_have_lists_and_a_code_that_means_success():
    tiktok, wrike = provider_of("tiktok"), provider_of("wrike")

    profile = document_of(shapes.userinfo_answer(tiktok, OCTOCAT))

    assert profile["error"] == {"code": "ok"}
    assert document_of(shapes.userinfo_answer(wrike, OCTOCAT))["data"][0]["id"] == "1"


# --- authorization ----------------------------------------------------------------------------------


def authorization_request(provider: Provider) -> dict[str, str]:
    """Return the query of the client's authorization request."""
    url = requests.authorization_url(
        replace(provider, authorization_endpoint="https://id.example/authorize"),
        redirect_uri="https://app.example/callback",
        state="the-state",
        scopes=SCOPES,
        code_verifier="v" * 64,
        nonce="the-nonce",
    )
    return dict(parse_qsl(urlsplit(url).query))


@every
def test_the_authorization_request_is_read_under_the_names_of_the_rfc(provider):
    request = shapes.read_authorization_request(provider, authorization_request(provider))

    assert request["client_id"] == "the-client"
    assert request["state"] == "the-state"
    assert request["nonce"] == "the-nonce"
    assert request.get("scope") == (" ".join(SCOPES) if provider.authorize.scope_parameter else None)
    with_pkce = provider.authorize.code_challenge_method != "none"
    assert request.get("code_challenge_method") == ("S256" if with_pkce else None)


def test_scopes_are_read_from_all_their_parameters():
    provider = own(authorize={"scope_separator": ",", "extra_scopes": {"optional_scope": ["third"]}})

    assert shapes.requested_scopes(provider, authorization_request(provider)) == [*SCOPES, "third"]


@every
def test_the_client_accepts_the_callback(provider):
    entered = {name: shapes.value_for(provider, name) for name in provider.asked_of("user")}
    started_with = {name: provider.value_of(name, value) for name, value in entered.items()}
    query = authorization_request(
        replace(provider, authorize=replace(provider.authorize, params={}, extra_scopes={}))
    )
    query |= dict(parse_qsl(shapes.authorization_query(provider).lstrip("?").format_map(started_with)))

    sent = shapes.callback_parameters(
        provider, {"code": "the-code", "state": "the-state"}, account=OCTOCAT, request=query
    )

    callback.check_signature(provider, sent.items())
    found = callback.read_callback(sent.items(), provider.callback.code_parameter)
    assert (found.code, found.state, found.error) == ("the-code", "the-state", "")
    values = callback.callback_values(provider, sent.items(), started_with)
    assert values.keys() >= provider.asked_of("callback").keys()
    named = shapes.variables_of(provider, OCTOCAT)
    assert all(named[name] == values[name] for name in provider.asked_of("callback"))


def test_a_callback_repeats_the_shop_that_the_user_entered():
    shopify = provider_of("shopify")
    sent = shapes.callback_parameters(shopify, {"code": "c", "state": "s"}, request={"shop": "their-shop"})

    assert shapes.authorization_query(shopify) == "?shop={shop}"
    assert callback.callback_values(shopify, sent.items(), {"shop": "their-shop"}) == {"shop": "their-shop"}


def test_an_error_on_the_callback_has_the_provider_s_own_code():
    provider = own(callback={"errors": {"user_cancelled": "access_denied"}})

    assert shapes.callback_parameters(provider, {"error": "access_denied", "state": "s"}) == {
        "error": "user_cancelled",
        "state": "s",
    }


def test_the_callback_separates_scopes_as_the_request_does():
    sent = shapes.callback_parameters(provider_of("strava"), {"code": "c", "scope": "read activity:read"})

    assert sent["scope"] == "read,activity:read"


# --- requests ---------------------------------------------------------------------------------------


class Wire(ServerSession):
    """Encodes each request as the real session does, and keeps it instead of sending it."""

    def __init__(self, answer: shapes.Written) -> None:
        super().__init__(1, DeadlineAdapter(1))
        self.answer = answer
        self.sent: tuple[dict[str, str], bytes, dict[str, str]] = ({}, b"", {})

    def exchange(self, method: str, url: str, **request: Any) -> Exchanged:
        headers = {**request["headers"], **request["credentials"]}
        body = b""
        if request.get("document") is not None:
            body = json.dumps(request["document"]).encode()
            headers["content-type"] = "application/json"
        elif request.get("form"):
            body = urlencode(request["form"]).encode()
            headers["content-type"] = "application/x-www-form-urlencoded"
        lower = {name.lower(): value for name, value in headers.items()}
        self.sent = (lower, body, dict(request.get("query") or {}))
        return Exchanged(self.answer.status, {"Content-Type": self.answer.content_type}, self.answer.body)


Read = Callable[..., dict[str, str]]


def asked(
    provider: Provider,
    ask: Callable[[AuthorizationServer], object],
    read: Read = shapes.read_token_request,
    answer: shapes.Written | None = None,
) -> dict[str, str]:
    """Return what the provider reads of a request that the client sends."""
    endpoints = {
        "token_endpoint": "https://id.example/token",
        "revocation_endpoint": provider.revocation_endpoint and "https://id.example/revoke",
        "device_authorization_endpoint": "https://id.example/device",
        "refresh": replace(provider.refresh, endpoint="", first_endpoint=""),
    }
    provider = replace(provider, **endpoints)
    session = Wire(answer or shapes.token_answer(provider, issued(provider), OCTOCAT))
    with AuthorizationServer(provider, session=session) as server:
        ask(server)
    return read(provider, *session.sent)


def exchange_code(server: AuthorizationServer) -> None:
    server.exchange_code(code="the-code", redirect_uri="https://app.example/cb", code_verifier="v" * 64)


@every
def test_the_exchange_of_a_code_is_read_under_the_names_of_the_rfc(provider):
    request = asked(provider, exchange_code)

    assert request["grant_type"] == "authorization_code"
    assert request["code"] == "the-code"
    is_omitted = "redirect_uri" in provider.token_request.omit
    assert request.get("redirect_uri") == (None if is_omitted else "https://app.example/cb")
    with_pkce = provider.authorize.code_challenge_method != "none"
    assert request.get("code_verifier") == ("v" * 64 if with_pkce else None)


@every
def test_a_refresh_is_read_under_the_names_of_the_rfc(provider):
    request = asked(provider, lambda server: server.refresh(TOKEN, redirect_uri="https://app.example/cb"))

    if provider.refresh.style == "exchange_access_token":
        assert request["grant_type"] == "exchange_access_token"
        assert request["access_token"] == "the-access-token"
    else:
        assert request["grant_type"] == "refresh_token"
        assert request["refresh_token"] == "the-refresh-token"


@pytest.mark.parametrize("name", ["facebook", "instagram"])
def test_the_first_exchange_for_a_long_lived_token_is_read_as_one(name):
    provider = provider_of(name)

    request = asked(provider, lambda server: server.exchange_short_lived(TOKEN))

    assert (request["grant_type"], request["access_token"]) == ("exchange_access_token", "the-access-token")
    assert shapes.is_client(provider, request)


@every
def test_a_request_for_the_client_s_own_token_is_read_under_the_names_of_the_rfc(provider):
    request = asked(provider, lambda server: server.client_credentials(scopes=SCOPES))

    assert request["grant_type"] == "client_credentials"
    assert request.get("scope") == (" ".join(SCOPES) if provider.authorize.scope_parameter else None)


DEVICE = {
    "device_code": "the-device-code",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://id.example/device",
    "expires_in": 600,
    "interval": 5,
}


@every
def test_a_device_flow_is_read_and_answered(provider):
    answer = shapes.device_answer(provider, DEVICE)

    request = asked(provider, lambda server: server.authorize_device(SCOPES), answer=answer)
    polled = asked(provider, lambda server: server.device_token("the-device-code"))

    assert request["client_id"] == "the-client"
    has_scopes = provider.authorize.scope_parameter or provider.device.scope_parameter
    assert request.get("scope") == (" ".join(SCOPES) if has_scopes else None)
    read_back = read_device_authorization(provider, answer.status, document_of(answer))
    assert (read_back.device_code, read_back.user_code) == ("the-device-code", "ABCD-EFGH")
    assert polled["grant_type"].endswith(":device_code")
    assert polled["device_code"] == "the-device-code"


@every
def test_the_client_is_known_by_its_secret_as_the_entry_says(provider):
    wrong = replace(provider, client_secret="wrong")
    accepts_any = bool(provider.hooks.register_client)

    for ask in (exchange_code, lambda server: server.refresh(TOKEN)):
        request = asked(provider, ask)
        has_secret = request["client_authentication"] != "none"
        assert has_secret or provider.refresh.authentication == "none"
        assert shapes.is_client(provider, request)
        assert shapes.is_client(provider, asked(wrong, ask)) is (accepts_any or not has_secret)


def test_a_client_that_sends_its_secret_elsewhere_is_not_known():
    basic = provider_of("x")
    request = asked(replace(basic, token_endpoint_auth_method="client_secret_post"), exchange_code)

    assert not shapes.is_client(basic, request)


def test_a_public_client_is_known_by_its_id():
    provider = own(client_secret="", token_endpoint_auth_method="none")

    assert shapes.is_client(provider, asked(provider, exchange_code))
    assert not shapes.is_client(provider, asked(replace(provider, client_id="another"), exchange_code))
    nobody = shapes.read_token_request(provider, {}, b"grant_type=authorization_code&code=c", {})
    assert not shapes.is_client(provider, nobody)


def test_a_secret_that_is_made_for_each_request_is_accepted():
    provider = provider_of("apple", client_secret=lambda: "signed")
    request = asked(replace(provider, client_secret="signed otherwise"), exchange_code)

    assert shapes.is_client(provider, request)


REVOKING = [
    name
    for name in NAMES
    if (one := provider_of(name)).revocation_endpoint and one.revocation.style != "none"
]


@pytest.mark.parametrize("name", REVOKING)
def test_a_revocation_is_read_and_answered(name):
    provider = provider_of(name)
    named = shapes.variables_of(provider, HUBOT)
    sender = provider.resolve({**values_of(provider), **named})
    revoke = partial(AuthorizationServer.revoke, token=TOKEN)

    request = asked(sender, revoke, shapes.read_revocation_request, answer=shapes.revocation_answer(provider))

    assert shapes.is_client(provider, request, revoking=True)
    if provider.revocation.token_parameter or provider.revocation.style == "bearer":
        assert request["token"] in (TOKEN.access_token, TOKEN.refresh_token)
        assert shapes.revoked_account(provider, [OCTOCAT, HUBOT], request) is None
    else:
        assert shapes.revoked_account(provider, [OCTOCAT, HUBOT], request) == HUBOT


def values_of(provider: Provider) -> dict[str, str]:
    return {
        name: shapes.value_for(provider, name) for name, one in provider.variables.items() if not one.is_late
    }


@pytest.mark.parametrize(
    "name", [name for name in REVOKING if provider_of(name).revocation.style != "bearer"]
)
def test_a_revocation_with_a_wrong_secret_is_not_the_client_s(name):
    provider = provider_of(name)
    sender = replace(provider, client_secret="wrong")
    revoke = partial(AuthorizationServer.revoke, token=TOKEN)

    request = asked(sender, revoke, shapes.read_revocation_request, shapes.revocation_answer(provider))

    needs_none = provider.revocation.authentication == "none" or bool(provider.hooks.register_client)
    assert shapes.is_client(provider, request, revoking=True) is needs_none


@every
def test_the_access_token_of_a_call_is_read(provider):
    resolved = replace(
        provider, userinfo_endpoint="https://id.example/me", accounts=replace(provider.accounts)
    )
    session = Wire(shapes.userinfo_answer(provider, OCTOCAT))

    with AuthorizationServer(resolved, session=session) as server:
        server.userinfo(TOKEN)
        assert shapes.bearer_of(provider, session.sent[0]) == "the-access-token"
    api = {provider.api.header.lower(): f"{provider.api.scheme} the-access-token".strip()}
    assert shapes.bearer_of(provider, api) == "the-access-token"


def test_a_call_with_the_word_of_another_library_has_a_token_where_the_provider_says_bearer():
    headers = {"authorization": "token the-access-token"}

    assert shapes.bearer_of(provider_of("github"), headers) == "the-access-token"
    assert shapes.bearer_of(provider_of("zoho"), headers) == ""
    assert shapes.bearer_of(provider_of("github"), {"authorization": "Basic abc"}) == ""
    assert shapes.bearer_of(provider_of("github"), {}) == ""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b"{"),
        ({"content-type": "application/json"}, b"[1]"),
        ({"content-type": "application/json"}, b"[" * 100_000),
        ({"authorization": "Basic %%%"}, b"\xff\xfe"),
        ({"authorization": "Basic"}, b""),
    ],
)
@pytest.mark.parametrize("name", [None, "square", "stripe-apps"])
def test_a_malformed_request_is_read_as_one_without_a_client(headers, body, name):
    provider = provider_of(name) if name else None

    request = shapes.read_token_request(provider, headers, body, {})

    assert not request.get("client_secret")
    assert provider is None or not shapes.is_client(provider, request)


# --- without an entry, and values -------------------------------------------------------------------


def test_without_an_entry_everything_is_as_the_rfcs_say():
    answer = shapes.token_answer(None, RESPONSE, OCTOCAT)
    headers = {"authorization": "Basic dGhlLWNsaWVudDp0aGUlMkJzZWNyZXQ="}

    assert json.loads(answer.body) == RESPONSE
    assert json.loads(shapes.refusal(None, "invalid_grant", "Spent").body) == {
        "error": "invalid_grant",
        "error_description": "Spent",
    }
    assert json.loads(shapes.userinfo_answer(None, OCTOCAT).body)["sub"] == "1"
    assert json.loads(shapes.introspection_answer(None, OCTOCAT, {"scope": "a"}).body) == {
        "active": True,
        "sub": "1",
        "username": "octocat",
        "scope": "a",
    }
    assert shapes.callback_parameters(None, {"code": "c", "state": ""}) == {"code": "c"}
    assert shapes.requested_scopes(None, {"scope": "b a b"}) == ["b", "a"]
    assert shapes.read_token_request(None, headers, b"grant_type=refresh_token", {}) == {
        "grant_type": "refresh_token",
        "client_id": "the-client",
        "client_secret": "the+secret",
        "client_authentication": "client_secret_basic",
    }
    assert shapes.read_revocation_request(None, {}, b"token=t", {})["token"] == "t"
    assert shapes.bearer_of(None, {"authorization": "bearer t"}) == "t"
    assert shapes.bearer_of(None, {}, b"access_token=t") == "t"
    assert shapes.revocation_answer(None).body == b""
    assert shapes.new_access_token(None, "opaque", NOW.timestamp()) == "opaque"


def test_the_registration_of_a_client_is_answered_as_mastodon_does():
    document = document_of(shapes.registration_answer("id", "secret"))

    assert (document["client_id"], document["client_secret"]) == ("id", "secret")


def test_no_repr_shows_a_token():
    assert "the-access-token" not in repr(shapes.token_answer(None, RESPONSE, OCTOCAT))


@every
def test_there_is_a_value_for_each_variable(provider):
    for name in provider.variables:
        assert provider.value_of(name, shapes.value_for(provider, name))
        assert provider.value_of(name, shapes.value_for(provider, name, "a seed"))


def test_a_pattern_without_a_value_is_an_error_that_says_what_to_do():
    provider = own(variables={"odd": {"pattern": "(?=a)b"}})

    with pytest.raises(Exception, match=r"own\.variables\.odd: .* Give an example"):
        shapes.value_for(provider, "odd")


@pytest.mark.parametrize(
    "pattern",
    [
        "[0-9]{10,19}",
        "[^/0-9]+",
        r"\w+\.\d\s",
        "(?:ab|cd)+x?",
        "(?i:abc)(?>d)",
        "[A-Z_]{3}.",
        r"[^a]b\Z",
        "(?P<tenant>[a-f]{2,})(?=z)?",
        "x*?y++",
    ],
)
def test_a_text_is_made_that_fits_a_pattern_and_differs_by_the_seed(pattern):
    assert text_matching(pattern, "one") == text_matching(pattern, "one") is not None


def test_no_text_is_made_that_the_pattern_does_not_match():
    assert text_matching("(?=a)b", "one") is None


def test_the_made_texts_of_two_seeds_differ():
    assert text_matching("[0-9]{10}", "one") != text_matching("[0-9]{10}", "two")


# --- any entry --------------------------------------------------------------------------------------

keys = st.sampled_from(["data", "0", "body", "result", "1"])
paths = st.sampled_from(["id", "user.id", "data.0.id", "people.1.id", "0.id", "a.b.c.d", "team.id+user.id"])


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """Return the quirks of an entry that no preset has, in their combination."""
    renamed = draw(st.lists(st.sampled_from(RESPONSE_FIELDS), unique=True))
    own_names = draw(st.permutations(["token", "accessToken", "kind", "granted", "ends"]))
    response = {
        "path": draw(st.lists(keys, max_size=3)),
        "fields": dict(zip(renamed, own_names, strict=False)),
        "success_field": draw(st.sampled_from(["", "ok", "success"])),
        "error_field": draw(st.sampled_from(["error", "error.code", "errors.0.kind", "message", ""])),
        "errors": draw(
            st.sampled_from(
                [
                    {},
                    {"17": "invalid_grant"},
                    {"007": "invalid_grant"},
                    {"oops: not": "invalid_grant"},
                    {"fine": ""},
                ]
            )
        ),
        "scope_separator": draw(st.sampled_from([" ", ",", "+", "|"])),
        "token_types": draw(st.sampled_from([["bearer"], ["bot", "bearer"]])),
        "token_type_required": draw(st.booleans()),
        "expires_unit": draw(
            st.sampled_from(["seconds", "epoch_seconds", "epoch_milliseconds", "iso8601", "jwt"])
        ),
        "refresh_token_expires_in": draw(st.sampled_from(["refresh_token_expires_in", "rt_ends"])),
        "refresh_token_expires_unit": draw(st.sampled_from(["seconds", "epoch_seconds", "iso8601"])),
    }
    identity = {
        "source": draw(st.sampled_from(["userinfo", "token_response"])),
        "id": draw(st.lists(paths, min_size=1, max_size=3)),
        "label": draw(st.lists(st.sampled_from(["name", "user.mail", "data.0.login", "id"]), max_size=2)),
    }
    userinfo = {"userinfo_endpoint": "https://id.example/me"}
    return {"token_response": response, "identity": identity, **userinfo}


@given(entries())
def test_the_client_reads_what_the_provider_of_any_entry_writes(entry):
    provider = own(**entry)
    response = issued(provider)

    token = read(provider, shapes.token_answer(provider, response, OCTOCAT, now=NOW))
    ended = shapes.refusal(provider, "invalid_grant", "Spent")

    assert (token.access_token, token.refresh_token) == (response["access_token"], "the-refresh-token")
    assert (token.scopes, token.expires_at) == (SCOPES, NOW + timedelta(hours=1))
    assert token.refresh_token_expires_at == NOW + timedelta(days=1)
    assert refusals.ends_grant(provider, ended.status, document_of(ended))
    assert refusals.is_refusal(provider, document_of(ended)) or ended.status == 400
    account_id, label = shapes.account_of(provider, OCTOCAT)
    assert pick(named_by(provider, OCTOCAT), provider.identity.id) == account_id != ""
    assert pick(named_by(provider, OCTOCAT), provider.identity.label) in ("", label)


@given(st.text(max_size=60), st.sampled_from(["encoded", "raw"]))
@example("a+b%41", "raw")
def test_any_secret_is_read_as_it_was_sent(secret, basic):
    provider = own(client_secret=secret or "s", token_request={"basic": basic})

    assert shapes.is_client(provider, asked(provider, exchange_code))


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=5))
def test_any_callback_is_signed_as_the_client_checks_it(parameters):
    parameters = {name: value for name, value in parameters.items() if name != "hmac"}
    shopify = provider_of("shopify")

    sent = shapes.callback_parameters(shopify, {**parameters, "code": "c", "state": "s"})

    callback.check_signature(shopify, sent.items())
    with pytest.raises(CallbackRefused):
        callback.check_signature(shopify, {**sent, "code": "another"}.items())


@given(st.binary(max_size=80), st.sampled_from(["application/json", "text/plain", ""]), st.text(max_size=40))
def test_any_request_is_read(body, content_type, authorization):
    headers = {"content-type": content_type, "authorization": authorization}
    for provider in (None, provider_of("square"), provider_of("facebook"), provider_of("stripe-apps")):
        request = shapes.read_token_request(provider, headers, body, {})
        revocation = shapes.read_revocation_request(provider, headers, body, {})
        shapes.bearer_of(provider, headers, body)
        if provider is not None:
            assert not shapes.is_client(provider, request)
            shapes.is_client(provider, revocation, revoking=True)
            shapes.revoked_account(provider, [OCTOCAT], revocation)
