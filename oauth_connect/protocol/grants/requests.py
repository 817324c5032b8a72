"""The requests of RFC 6749, as pure functions that return parameters. No I/O, no clock.

``callback`` reads the response from the browser, and ``responses`` reads the response from the server.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from oauthlib.oauth2 import BackendApplicationClient, WebApplicationClient
from requests_oauthlib import OAuth2Session

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.templates import without_missing
from oauth_connect.protocol.token import Token

VERIFIER_LENGTH = 64
DEVICE_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"


class Parameters(dict[str, str]):
    """Request parameters. Their ``repr`` shows only names, because tracebacks print locals."""

    def __repr__(self) -> str:
        return f"<Parameters {', '.join(self)}>"


def new_code_verifier() -> str:
    """Return a new PKCE code verifier (RFC 7636 section 4.1)."""
    return str(WebApplicationClient("").create_code_verifier(VERIFIER_LENGTH))


def authorization_url(
    provider: Provider,
    *,
    redirect_uri: str,
    state: str,
    scopes: Iterable[str],
    code_verifier: str,
    nonce: str = "",
) -> str:
    """Return the URL to send the user's browser to (RFC 6749 section 4.1.1, RFC 7636 section 4.3).

    ``provider`` must be resolved.
    """
    parameters = dict(provider.authorize.params)
    scope = provider.authorize.scope_separator.join(scopes)
    if scope and provider.authorize.scope_parameter:
        parameters[provider.authorize.scope_parameter] = scope
    if provider.authorize.response_mode:
        parameters["response_mode"] = provider.authorize.response_mode
    if nonce:
        parameters["nonce"] = nonce
    client = WebApplicationClient(provider.client_id)
    if provider.authorize.code_challenge_method == "S256":
        parameters["code_challenge"] = client.create_code_challenge(code_verifier, "S256")
        parameters["code_challenge_method"] = "S256"
    # oauthlib refuses plain http even on loopback. Its setting for that is process-wide.
    scheme, _, rest = provider.authorization_endpoint.partition("://")
    session = OAuth2Session(client=client, redirect_uri=redirect_uri, scope=parameters.pop("scope", None))
    url, _ = session.authorization_url(f"https://{rest}", state=state, **parameters)
    return f"{scheme}://{url.partition('://')[2]}"


def code_request(provider: Provider, *, code: str, redirect_uri: str, code_verifier: str) -> Parameters:
    """Return the parameters that exchange a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
    with_pkce = provider.authorize.code_challenge_method != "none"
    body = WebApplicationClient(provider.client_id).prepare_request_body(
        code=code,
        redirect_uri=redirect_uri,
        include_client_id=False,
        code_verifier=code_verifier if with_pkce else None,
    )
    return Parameters({**dict(parse_qsl(body)), **without_missing(provider.token_request.params)})


def refresh_request(provider: Provider, *, token: Token, redirect_uri: str = "") -> Parameters:
    """Return the parameters of a refresh (RFC 6749 section 6). No scope is sent, so it does not change."""
    rules = provider.refresh
    if rules.style == "exchange_access_token":
        exchange = {"grant_type": rules.exchange_grant_type, rules.exchange_parameter: token.access_token}
        return Parameters({**exchange, **without_missing(provider.token_request.refresh_params)})
    grant = {"grant_type": "refresh_token", "refresh_token": token.refresh_token}
    parameters = Parameters({**grant, **without_missing(provider.token_request.refresh_params)})
    if provider.token_request.repeat_redirect_uri_on_refresh:
        parameters["redirect_uri"] = redirect_uri
    return parameters


def client_credentials_request(
    provider: Provider, *, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> Parameters:
    """Return the parameters that request the client's own token (RFC 6749 section 4.4.2, RFC 8707)."""
    scope = provider.authorize.scope_separator.join(scopes)
    body = BackendApplicationClient(provider.client_id).prepare_request_body(
        scope=scope or None, include_client_id=False
    )
    parameters = Parameters(parse_qsl(body))
    # Omit empty values. A server may refuse them (RFC 8707 section 2), or read another meaning into them.
    targets = (("resource", resource), ("audience", audience))
    parameters.update({name: value for name, value in targets if value})
    return parameters


def device_authorization_request(provider: Provider, scopes: Iterable[str]) -> Parameters:
    """Return the parameters that start a device flow (RFC 8628 section 3.1).

    They contain the client id with every authentication method, because servers expect it there.
    """
    parameters = Parameters({"client_id": provider.client_id, **without_missing(provider.device.params)})
    scope = provider.authorize.scope_separator.join(scopes)
    if scope and provider.authorize.scope_parameter:
        parameters[provider.authorize.scope_parameter] = scope
    return parameters


def device_token_request(provider: Provider, device_code: str) -> Parameters:
    """Return the parameters that request the token of a device flow (RFC 8628 section 3.4)."""
    grant = {"grant_type": DEVICE_GRANT_TYPE, "device_code": device_code}
    return Parameters({**grant, **without_missing(provider.token_request.params)})


def revocation_request(provider: Provider, token: Token) -> Parameters:
    """Return a revocation's parameters (RFC 7009 section 2.1), or none if the token is the credential."""
    rules = provider.revocation
    if rules.style == "bearer":
        return Parameters()
    hint = rules.token if token.refresh_token else "access_token"
    parameters = Parameters({rules.token_parameter: getattr(token, hint)})
    if rules.body == "form":
        parameters["token_type_hint"] = hint
    return parameters
