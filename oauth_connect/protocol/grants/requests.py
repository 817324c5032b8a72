"""The requests of RFC 6749, as pure functions that return parameters. No I/O, no clock.

``callback`` reads the response from the browser, and ``responses`` reads the response from the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote

from oauthlib.oauth2 import WebApplicationClient
from requests_oauthlib import OAuth2Session

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import DEVICE_CODE
from oauth_connect.protocol.templates import fill_table, without_missing
from oauth_connect.protocol.token import Token

VERIFIER_LENGTH = 64


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
    rules = provider.authorize
    parameters = {**rules.params, **_scope(provider, scopes), **_extra_scopes(provider)}
    if rules.response_mode:
        parameters["response_mode"] = rules.response_mode
    if nonce:
        parameters["nonce"] = nonce
    client = WebApplicationClient(provider.client_id)
    if rules.code_challenge_method != "none":
        parameters["code_challenge"] = client.create_code_challenge(code_verifier, "S256")
        parameters["code_challenge_method"] = rules.code_challenge_method
    # oauthlib refuses plain http even on loopback. Its setting for that is process-wide.
    scheme, _, rest = provider.authorization_endpoint.partition("://")
    session = OAuth2Session(client=client, redirect_uri=redirect_uri, scope=parameters.pop("scope", None))
    url, _ = session.authorization_url(f"https://{rest}", state=state, **parameters)
    url = _with_percent_spaces(url.partition("://")[2])
    return f"{scheme}://{_with_client_id_as(rules.client_id_parameter, url)}"


def _scope(provider: Provider, scopes: Iterable[str], parameter: str = "") -> dict[str, str]:
    """Return the parameter with the scopes, or none if there are no scopes or the provider has none."""
    rules = provider.authorize
    parameter = parameter or rules.scope_parameter
    scope = rules.scope_separator.join(scopes)
    return {parameter: scope} if scope and parameter else {}


def _extra_scopes(provider: Provider) -> dict[str, str]:
    """Return the further parameters with scopes. An empty one is not sent."""
    rules = provider.authorize
    return {name: rules.scope_separator.join(scopes) for name, scopes in rules.extra_scopes.items() if scopes}


_CLIENT_ID = re.compile(r"(?<=[?&])client_id(?==)")


def _with_client_id_as(parameter: str, url: str) -> str:
    """Return a URL whose query has the client id in this parameter. oauthlib knows one name only."""
    return url if parameter == "client_id" else _CLIENT_ID.sub(lambda _: quote(parameter, safe=""), url)


def _with_percent_spaces(url: str) -> str:
    """Return a URL whose query has ``%20`` for a space. Some servers read ``+`` as a plus sign.

    oauthlib has encoded the whole query, so a plus sign of a value is ``%2B`` there.
    """
    path, mark, query = url.partition("?")
    return f"{path}{mark}{query.replace('+', '%20')}"


def code_request(provider: Provider, *, code: str, redirect_uri: str, code_verifier: str) -> Parameters:
    """Return the parameters that exchange a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
    with_pkce = provider.authorize.code_challenge_method != "none"
    body = WebApplicationClient(provider.client_id).prepare_request_body(
        code=code,
        redirect_uri=redirect_uri,
        include_client_id=False,
        code_verifier=code_verifier if with_pkce else None,
    )
    sent = {name: value for name, value in parse_qsl(body) if name not in provider.token_request.omit}
    return Parameters({**sent, **without_missing(provider.token_request.params)})


def refresh_request(provider: Provider, *, token: Token, redirect_uri: str = "") -> Parameters:
    """Return the parameters of a refresh (RFC 6749 section 6). No scope is sent, so it does not change."""
    if provider.refresh.style == "exchange_access_token":
        return exchange_request(provider, token, provider.refresh.exchange_grant_type)
    grant = {"grant_type": "refresh_token", "refresh_token": token.refresh_token}
    parameters = Parameters({**grant, **without_missing(provider.token_request.refresh_params)})
    if provider.token_request.repeat_redirect_uri_on_refresh:
        parameters["redirect_uri"] = redirect_uri
    return parameters


def exchange_request(provider: Provider, token: Token, grant_type: str) -> Parameters:
    """Return the parameters that exchange a valid access token for a newer one."""
    exchange = {"grant_type": grant_type, provider.refresh.exchange_parameter: token.access_token}
    return Parameters({**exchange, **without_missing(provider.token_request.refresh_params)})


def client_credentials_request(
    provider: Provider, *, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> Parameters:
    """Return the parameters that request the client's own token (RFC 6749 section 4.4.2, RFC 8707).

    Parameters of the call replace those of ``token_request``. ``client_credentials`` replaces both.
    """
    rules = provider.client_credentials
    # Omit empty values. A server may refuse them (RFC 8707 section 2), or read another meaning into them.
    targets = (("resource", resource), ("audience", audience))
    return Parameters(
        {
            **without_missing(provider.token_request.params),
            "grant_type": rules.grant_type,
            **_scope(provider, scopes),
            **{name: value for name, value in targets if value},
            **without_missing(rules.params),
        }
    )


def device_authorization_request(provider: Provider, scopes: Iterable[str]) -> Parameters:
    """Return the parameters that start a device flow (RFC 8628 section 3.1).

    They contain the client id with every authentication method, because servers expect it there.
    """
    rules = provider.device
    client = {provider.token_request.client_id_parameter: provider.client_id}
    scope = _scope(provider, scopes, rules.scope_parameter)
    return Parameters({**client, **without_missing(rules.params), **scope})


def device_token_request(provider: Provider, device_code: str) -> Parameters:
    """Return the parameters that request the token of a device flow (RFC 8628 section 3.4)."""
    grant = {"grant_type": DEVICE_CODE, "device_code": device_code}
    return Parameters({**grant, **without_missing(provider.token_request.params)})


def revocation_request(provider: Provider, token: Token) -> Parameters:
    """Return a revocation's parameters (RFC 7009 section 2.1). A bearer's has those of the entry alone."""
    rules = provider.revocation
    if rules.style == "bearer":
        return _revocation_params(provider, token.access_token)
    hint = rules.token if token.refresh_token else "access_token"
    value = getattr(token, hint)
    parameters = Parameters({rules.token_parameter: value} if rules.token_parameter else {})
    if rules.body == "form" and rules.token_parameter:
        parameters["token_type_hint"] = hint
    return Parameters({**parameters, **_revocation_params(provider, value)})


def _revocation_params(provider: Provider, token: str) -> Parameters:
    return Parameters(without_missing(fill_table(provider.revocation.params, {"token": token})))


def introspection_request(token: Token) -> Parameters:
    """Return the parameters that ask about an access token (RFC 7662 section 2.1)."""
    return Parameters({"token": token.access_token, "token_type_hint": "access_token"})
