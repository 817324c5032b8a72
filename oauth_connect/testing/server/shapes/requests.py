"""Reads the requests of a client: to the token and revocation endpoints, and with an access token."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.templates import fill_table
from oauth_connect.testing.server.messages import Account
from oauth_connect.testing.server.shapes.accounts import variables_of
from oauth_connect.testing.server.shapes.authorization import requested_scopes

EXCHANGE = "exchange_access_token"  # the name for any grant that exchanges a valid access token
# Where a request has the client's secret, under the names of ``token_endpoint_auth_method``.
AUTHENTICATION = "client_authentication"
BASIC, POST, HEADER, NONE = "client_secret_basic", "client_secret_post", "client_secret_header", "none"
SEVERAL = "several"


def read_token_request(
    provider: Provider | None, headers: Mapping[str, str], body: bytes, query: Mapping[str, str]
) -> dict[str, str]:
    """Return the parameters of a token request, or device authorization request, under the RFC's names.

    ``headers``: their names are in lower case. The result also has the client's id and secret, where the
    request has them, and ``client_authentication``: where it has them. An access token that is exchanged for
    a newer one has the grant type ``exchange_access_token``. Malformed input is left out. So is the query
    without an entry: a secret must not be in a URL (RFC 6749 section 2.3.1).
    """
    request = _parameters(headers, body, query if provider is not None else {})
    if provider is not None:
        request |= _grant(provider, request)
        if scopes := requested_scopes(provider, request):
            request["scope"] = " ".join(scopes)
    return request | _client(provider, headers, request)


def _parameters(headers: Mapping[str, str], body: bytes, query: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of the query and of the body, a form or JSON."""
    if "json" in headers.get("content-type", ""):
        return {**query, **_json(body)}
    return {**query, **dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))}


def _json(body: bytes) -> dict[str, str]:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    pairs = ((name, value) for name, value in document.items() if isinstance(value, str | int | float))
    return {name: _encodable(str(value)) for name, value in pairs}


def _encodable(text: str) -> str:
    """Replace half of a surrogate pair, which JSON can have and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _grant(provider: Provider, request: Mapping[str, str]) -> dict[str, str]:
    """Return the RFC's grant type, and the access token of an exchange."""
    grant_type = request.get("grant_type", "")
    if not grant_type and "code" in request and "grant_type" in provider.token_request.omit:
        return {"grant_type": "authorization_code"}
    if grant_type == provider.client_credentials.grant_type:
        return {"grant_type": "client_credentials"}
    rules = provider.refresh
    if rules.style == EXCHANGE and grant_type in (rules.exchange_grant_type, rules.first_grant_type):
        token = request.get(rules.exchange_parameter, "")
        return {"grant_type": EXCHANGE, "access_token": token}
    return {}


def _client(
    provider: Provider | None, headers: Mapping[str, str], request: Mapping[str, str]
) -> dict[str, str]:
    """Return the client's id and secret, and where the request has them."""
    id_parameter = "client_id" if provider is None else provider.token_request.client_id_parameter
    sent = {"client_id": request[id_parameter]} if id_parameter in request else {}
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        method = SEVERAL if "client_secret" in request else BASIC
        return {**sent, **_basic(provider, credentials), AUTHENTICATION: method}
    if "client_secret" in request:
        return {**sent, "client_secret": request["client_secret"], AUTHENTICATION: POST}
    return {**sent, AUTHENTICATION: NONE}


def _basic(provider: Provider | None, credentials: str) -> dict[str, str]:
    """Return the client of HTTP Basic, in the entry's encoding (``token_request.basic``)."""
    encoding = "encoded" if provider is None else provider.token_request.basic
    try:
        pair = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return {}
    if encoding == "secret_as_username" and provider is not None:
        return {"client_id": provider.client_id, "client_secret": pair.removesuffix(":")}
    client_id, _, secret = pair.partition(":")
    read = unquote_plus if encoding == "encoded" else str
    return {"client_id": read(client_id), "client_secret": read(secret)}


def is_client(provider: Provider, request: Mapping[str, str], *, revoking: bool = False) -> bool:
    """Return whether a request proves the provider's client, in the way that the entry says.

    ``request``: from ``read_token_request`` or, with ``revoking``, from ``read_revocation_request``. A secret
    that a function makes for each request is accepted unchecked. So is a registered client.
    """
    if revoking and provider.revocation.style == "bearer":
        return True
    found, client_id = request[AUTHENTICATION], request.get("client_id")
    if found not in _expected(provider, request, revoking=revoking):
        return False
    if not provider.hooks.register_client and client_id not in (None, provider.client_id):
        return False
    if found == NONE:
        return client_id is not None or provider.client_authentication != NONE
    return client_id is not None and _is_secret(provider, request.get("client_secret", ""))


def _expected(provider: Provider, request: Mapping[str, str], *, revoking: bool) -> set[str]:
    """Return the methods of client authentication that the entry has for a request."""
    usual, rules = provider.client_authentication, provider.refresh
    if revoking:
        return {provider.revocation.authentication or usual}
    if request.get("grant_type") == EXCHANGE:  # the first exchange has the usual one
        return {usual, rules.authentication or usual}
    return {(rules.authentication if request.get("grant_type") == "refresh_token" else None) or usual}


def _is_secret(provider: Provider, secret: str) -> bool:
    hooks = provider.hooks
    if callable(provider.client_secret) or hooks.client_secret or hooks.register_client:
        return bool(secret)
    return secret in provider.secrets()


def read_revocation_request(
    provider: Provider | None, headers: Mapping[str, str], body: bytes, query: Mapping[str, str]
) -> dict[str, str]:
    """Return the parameters of a revocation under the RFC's names (RFC 7009 section 2.1).

    There is no ``token`` if the request names none. The client as in ``read_token_request``.
    """
    request = _parameters(headers, body, query)
    if provider is None:
        return request | _client(None, headers, request)
    rules = provider.revocation
    token = bearer_of(provider, headers) if rules.style == "bearer" else request.get(rules.token_parameter)
    if token:
        request["token"] = token
    if rules.authentication == HEADER:
        return request | _secret_in_header(headers, rules.secret_scheme)
    return request | _client(provider, headers, request)


def _secret_in_header(headers: Mapping[str, str], scheme: str) -> dict[str, str]:
    found = _after(scheme, headers.get("authorization", ""))
    return {"client_secret": found, AUTHENTICATION: HEADER} if found else {AUTHENTICATION: NONE}


def revoked_account(
    provider: Provider | None, accounts: Iterable[Account], request: Mapping[str, str]
) -> Account | None:
    """Return the account that a revocation names by the entry's parameters instead of a token (Stripe)."""
    if provider is None or provider.revocation.token_parameter or provider.revocation.style == "bearer":
        return None
    for account in accounts:
        values = {**variables_of(provider, account), "client_id": provider.client_id}
        if fill_table(provider.revocation.params, values).items() <= request.items():
            return account
    return None


def bearer_of(provider: Provider | None, headers: Mapping[str, str], body: bytes = b"") -> str:
    """Return the access token of a request to the API or to userinfo_endpoint, or "" if it has none.

    It is in the entry's header, after the entry's scheme. Instead of ``Bearer`` any word may stand, because
    libraries for one API send others, such as ``token``.
    """
    if provider is None:
        in_form = _parameters(headers, body, {}).get("access_token", "")  # RFC 6750 section 2.2
        return _after("Bearer", headers.get("authorization", "")) or in_form
    value = headers.get(provider.api.header.lower(), "")
    schemes = {provider.api.scheme, provider.identity.scheme or provider.api.scheme}
    if schemes == {"Bearer"} and not value.lower().startswith("basic "):
        return value.rpartition(" ")[2]
    return next(filter(None, (_after(scheme, value) for scheme in sorted(schemes, reverse=True))), "")


def _after(scheme: str, value: str) -> str:
    """Return what follows a scheme (RFC 9110 section 11.4), or "" if the value has another one."""
    if not scheme:
        return value
    found, _, token = value.partition(" ")
    return token.strip() if found.lower() == scheme.lower() else ""
