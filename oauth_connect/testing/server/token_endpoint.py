"""The endpoints that only the client calls: token, device authorization, revocation and introspection."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from hmac import compare_digest
from itertools import chain
from typing import Any

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import DEVICE_CODE
from oauth_connect.testing.server import shapes
from oauth_connect.testing.server.devices import LIFETIME
from oauth_connect.testing.server.grants import Grant
from oauth_connect.testing.server.messages import Account, Refused
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.responses import Response, document
from oauth_connect.testing.server.rules import CLIENT_ID, CLIENT_SECRET
from oauth_connect.testing.server.state import State

Form = Mapping[str, str]
Issued = tuple[Grant, dict[str, Any]]


def token(state: State, request: ReceivedRequest) -> Response:
    """Answer a token request (RFC 6749 section 3.2)."""
    form = _form(state, request)
    try:
        check_client(state, form)
        grant, response = _grant_type(form)(state, form)
    except Refused as refused:
        return refusal(state, request, refused)
    others = _other_tokens(state, grant, response)
    nonce = grant.nonce if form["grant_type"] != "refresh_token" else ""
    whole = response | _id_token(state, grant, nonce)
    written = shapes.token_answer(
        state.provider, whole, grant.account, accept=_accept(request), others=others
    )
    return Response.of(written)


def _other_tokens(
    state: State, grant: Grant, response: dict[str, Any]
) -> list[tuple[Provider, dict[str, Any]]]:
    """Take the scopes of other entries out of a response. Return a token for each of these entries.

    They are the entry's ``extra_scopes``. At Slack the user's token has them, and the bot's has the rest.
    """
    extra = {*chain.from_iterable(state.provider.authorize.extra_scopes.values())} if state.provider else ()
    asked = [scope for scope in grant.scopes if scope in extra]
    if not state.others or not asked:
        return []
    grant.scopes = tuple(scope for scope in grant.scopes if scope not in extra)
    response["scope"] = " ".join(grant.scopes)
    grants = [
        state.grants.new_grant(state.rules, grant.account, asked, grant.client_id) for _ in state.others
    ]
    return [(other, state.grants.issue(one)) for other, one in zip(state.others, grants, strict=True)]


def refusal(state: State, request: ReceivedRequest, refused: Refused) -> Response:
    """Return an error response (RFC 6749 section 5.2), as this provider writes it."""
    written = shapes.refusal(
        state.provider, refused.error, refused.description, refused.status, accept=_accept(request)
    )
    is_challenged = written.status == 401 and "authorization" in request.headers
    return Response.of(written, {"WWW-Authenticate": 'Basic realm="fake provider"'} if is_challenged else {})


def device_authorization(state: State, request: ReceivedRequest) -> Response:
    """Start a device flow (RFC 8628 section 3.1). A decision that waits already is taken for it."""
    form = _form(state, request)
    try:
        check_client(state, form)
    except Refused as refused:
        return refusal(state, request, refused)
    code = state.devices.start(form.get("client_id", ""), _scopes(form))
    if decision := state.next_decision():
        state.devices.decide(code, decision)
    page = f"{state.url}/device"
    fields = {
        "device_code": code.device_code,
        "user_code": code.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={code.user_code}",
        "expires_in": LIFETIME,
        "interval": int(code.interval),
    }
    return Response.of(shapes.device_answer(state.provider, fields, accept=_accept(request)))


def revocation(state: State, request: ReceivedRequest) -> Response:
    """Revoke a token (RFC 7009 section 2), or all of an account where the provider has no token for it."""
    form = shapes.read_revocation_request(state.provider, request.headers, request.body, request.query)
    try:
        check_client(state, form, revoking=True)
        account = shapes.revoked_account(state.provider, state.accounts, form)
        if account is None:
            state.grants.revoke(state.rules, _required(form, "token"))
        else:
            state.grants.revoke_account(account)
    except Refused as refused:
        return refusal(state, request, refused)
    return Response.of(shapes.revocation_answer(state.provider))


def introspection(state: State, request: ReceivedRequest) -> Response:
    """Describe a token (RFC 7662 section 2)."""
    form = _form(state, request)
    try:
        check_client(state, form)
    except Refused as refused:
        return refusal(state, request, refused)
    access_token = request.form.get("token", "")
    grant = state.grants.grant_of(access_token)
    if grant is None:
        return document({"active": False})
    fields = {
        "active": True,
        "client_id": grant.client_id,
        **({"exp": int(grant.access_tokens[access_token])} if grant.tokens_expire else {}),
        "scope": " ".join(grant.scopes),
        "token_type": "Bearer",
        "username": grant.account.name,
    }
    return Response.of(shapes.introspection_answer(state.provider, grant.account, fields))


def registration(state: State, request: ReceivedRequest) -> Response:
    """Register a client as Mastodon does. It is always the same one."""
    return Response.of(shapes.registration_answer(CLIENT_ID, CLIENT_SECRET))


# --- the grants ---------------------------------------------------------------------------------


def _grant_type(form: Form) -> Callable[[State, Form], Issued]:
    name = _required(form, "grant_type")
    if name not in _GRANTS:
        raise Refused("unsupported_grant_type", f"The fake provider knows: {', '.join(_GRANTS)}.")
    return _GRANTS[name]


def _code(state: State, form: Form) -> Issued:
    return state.grants.redeem(
        state.rules,
        code=_required(form, "code"),
        client_id=form.get("client_id", state.rules.client_id),
        redirect_uri=form.get("redirect_uri"),
        verifier=form.get("code_verifier", ""),
    )


def _refresh(state: State, form: Form) -> Issued:
    return state.grants.refresh(
        state.rules,
        refresh_token=_required(form, "refresh_token"),
        client_id=form.get("client_id"),
        scopes=_scopes(form) or None,
    )


def _exchange(state: State, form: Form) -> Issued:
    return state.grants.exchange(access_token=_required(form, "access_token"))


def _client_credentials(state: State, form: Form) -> Issued:
    """The client's own token has no refresh token (RFC 6749 section 4.4.3)."""
    client_id = form.get("client_id", state.rules.client_id)
    rules = replace(state.rules, issues_refresh_tokens=False)
    account = Account(id=client_id, name=client_id)
    grant = state.grants.new_grant(rules, account, _scopes(form), client_id)
    return grant, state.grants.issue(grant)


def _device_code(state: State, form: Form) -> Issued:
    client_id = form.get("client_id", state.rules.client_id)
    decision, requested = state.devices.poll(_required(form, "device_code"), client_id)
    account, scopes = decision.granted(requested)
    grant = state.grants.new_grant(state.rules, account, scopes, client_id)
    return grant, state.grants.issue(grant)


_GRANTS: dict[str, Callable[[State, Form], Issued]] = {
    "authorization_code": _code,
    "refresh_token": _refresh,
    "client_credentials": _client_credentials,
    DEVICE_CODE: _device_code,
    shapes.EXCHANGE: _exchange,
}

GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials", DEVICE_CODE)


# --- the request --------------------------------------------------------------------------------


def _form(state: State, request: ReceivedRequest) -> dict[str, str]:
    return shapes.read_token_request(state.provider, request.headers, request.body, request.query)


def _scopes(form: Form) -> list[str]:
    """Return the requested scopes. ``read_token_request`` has separated them by spaces."""
    return form.get("scope", "").split()


def _accept(request: ReceivedRequest) -> str:
    return request.headers.get("accept", "*/*")


def _required(form: Form, name: str) -> str:
    if not form.get(name):
        raise Refused("invalid_request", f"The parameter {name} is missing.")
    return form[name]


def check_client(state: State, form: Form, *, revoking: bool = False) -> None:
    """Check how the client authenticates. Raises Refused (RFC 6749 section 5.2)."""
    if form[shapes.AUTHENTICATION] == shapes.SEVERAL:
        raise Refused("invalid_request", "The client authenticates in two ways (RFC 6749 section 2.3).")
    if state.provider is not None:
        is_right = shapes.is_client(state.provider, form, revoking=revoking)
    else:
        given = (form.get("client_id", "").encode(), form.get("client_secret", "").encode())
        is_right = compare_digest(given[0], CLIENT_ID.encode())
        is_right &= compare_digest(given[1], CLIENT_SECRET.encode())
    if not is_right:
        raise Refused("invalid_client", "The client is unknown, or its secret is missing or wrong.", 401)


def _id_token(state: State, grant: Grant, nonce: str) -> dict[str, Any]:
    """Return the claims of an ID token (OpenID Connect Core section 2), if openid was granted."""
    if "openid" not in grant.scopes:
        return {}
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": state.rules.issuer or state.url,
        "sub": grant.account.id,
        "aud": grant.client_id,
        "iat": now,
        "exp": now + state.grants.lifetime,
    }
    return {"id_token": claims | ({"nonce": nonce} if nonce else {})}
