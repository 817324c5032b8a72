"""The endpoints that a browser visits: the authorization endpoint, and the page for device codes."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from oauth_connect.testing.server import pages, shapes
from oauth_connect.testing.server.devices import DeviceCode
from oauth_connect.testing.server.failures import Failure
from oauth_connect.testing.server.messages import Account, AuthorizationRequest, Decision, Refused
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.responses import Response, page, redirect, with_query
from oauth_connect.testing.server.state import State

SPENT = "This page has been used, or it is too old. Go back to the site, and start there again."


def authorize(state: State, request: ReceivedRequest, failure: Failure | None = None) -> Response:
    """Answer an authorization request (RFC 6749 section 3.1): a page, or a decision that waits already."""
    query = shapes.read_authorization_request(state.provider, request.query)
    if problem := _problem_of_client(state, query):
        # Never a redirect: the URI may belong to another site (section 4.1.2.1).
        return page(pages.message(state.label, problem), 400)
    asked = _asked(state, query, request.query)
    try:
        if failure is not None and failure.error:
            raise Refused(failure.error, "A test asked for this failure.")
        _check(state, query)
    except Refused as refused:
        return _refusal(state, asked, refused)
    decision = state.next_decision()
    return _show(state, asked) if decision is None else _decided(state, asked, decision)


def decide(state: State, request: ReceivedRequest) -> Response:
    """Do what a person chose on the page."""
    form = request.form
    asked = state.take_asked(form.get("request", ""))
    if asked is None:
        return page(pages.message(state.label, SPENT), 400)
    decision = _chosen(state, form)
    if isinstance(asked, AuthorizationRequest):
        return _decided(state, asked, decision)
    state.devices.decide(asked, decision)
    done = "The device has access." if decision.account else "The device has no access."
    return page(pages.message(state.label, f"{done} You may close this page."))


def device(state: State, request: ReceivedRequest) -> Response:
    """Show the page on which a person enters the code of a device (RFC 8628 section 3.3)."""
    user_code = request.query.get("user_code", "")
    code = state.devices.shown(user_code) if user_code else None
    if code is not None:
        return _show(state, code)
    problem = "No device waits with this code. Compare it, or start again at the device."
    return page(pages.enter_code(state.label, problem if user_code else ""))


def _problem_of_client(state: State, query: Mapping[str, str]) -> str:
    """Return why the client or its redirect URI cannot be trusted, or ""."""
    if state.rules.client_id not in ("", query.get("client_id")):
        return "The client_id is not the one of this provider. Compare it with the settings of the site."
    if not _is_redirect_uri(query.get("redirect_uri", "")):
        return "The redirect_uri is missing, or it is not an absolute URL (in ASCII, without a fragment)."
    return ""


def _is_redirect_uri(text: str) -> bool:
    """Return whether this is a URI to return to (RFC 6749 section 3.1.2). A URI is ASCII (RFC 3986)."""
    try:
        split = urlsplit(text)
    except ValueError:
        return False
    is_absolute = split.scheme in ("http", "https") and bool(split.netloc)
    return is_absolute and not split.fragment and text.isascii() and text.isprintable()


def _asked(state: State, query: Mapping[str, str], sent: Mapping[str, str]) -> AuthorizationRequest:
    return AuthorizationRequest(
        client_id=query.get("client_id", ""),
        redirect_uri=query["redirect_uri"],
        scopes=tuple(dict.fromkeys(shapes.requested_scopes(state.provider, sent))),
        state=query.get("state"),
        challenge=query.get("code_challenge", ""),
        nonce=query.get("nonce", ""),
        form_post=state.rules.form_post or query.get("response_mode") == "form_post",
        sent=dict(sent),
    )


def _check(state: State, query: Mapping[str, str]) -> None:
    """Check the request's parameters. Raises Refused (RFC 6749 section 4.1.2.1, RFC 7636 section 4.4.1)."""
    if "response_type" not in query:
        raise Refused("invalid_request", "The response_type is missing (RFC 6749 section 3.1.1).")
    if query["response_type"] != "code":
        raise Refused("unsupported_response_type", "Only response_type=code is supported.")
    if "code_challenge" not in query:
        if state.rules.needs_pkce:
            raise Refused("invalid_request", "The code_challenge is missing (RFC 7636).")
    elif query.get("code_challenge_method") != "S256":
        raise Refused("invalid_request", "The code_challenge_method must be S256.")


def _show(state: State, asked: AuthorizationRequest | DeviceCode) -> Response:
    number = state.ask(asked)
    target = urlsplit(asked.redirect_uri).netloc if isinstance(asked, AuthorizationRequest) else ""
    return page(pages.consent(state.label, asked.client_id, target, asked.scopes, state.accounts, number))


def _chosen(state: State, form: Mapping[str, str]) -> Decision:
    """Return the decision of a form. An account that the page did not offer denies."""
    named = [account for account in state.accounts if account.name == form.get("account")]
    scopes = tuple(value for name, value in form.items() if name.startswith("scope_"))
    return Decision(account=named[0] if named else None, scopes=scopes)


def _decided(state: State, asked: AuthorizationRequest, decision: Decision) -> Response:
    try:
        account, scopes = decision.granted(asked.scopes)
    except Refused as refused:
        return _refusal(state, asked, refused)
    code = state.grants.new_code(asked, account, scopes)
    return _returned(state, asked, {"code": code}, account)


def _refusal(state: State, asked: AuthorizationRequest, refused: Refused) -> Response:
    return _returned(state, asked, {"error": refused.error, "error_description": refused.description}, None)


def _returned(
    state: State, asked: AuthorizationRequest, parameters: dict[str, str], account: Account | None
) -> Response:
    """Send the browser back with the authorization response (RFC 6749 section 4.1.2, RFC 9207)."""
    if asked.state is not None:
        parameters["state"] = asked.state
    if state.rules.names_issuer:
        parameters["iss"] = state.rules.issuer or state.url
    written = shapes.callback_parameters(
        state.provider, parameters, state.client_secret, account=account, request=asked.sent
    )
    if asked.form_post:
        return page(pages.form_post(state.label, asked.redirect_uri, written))
    return redirect(with_query(asked.redirect_uri, written))
