"""The authorization endpoint: reads the request, and writes the response (RFC 6749 section 4.1)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from itertools import chain
from urllib.parse import quote

from oauth_connect.protocol.provider import Provider
from oauth_connect.testing.server.messages import Account
from oauth_connect.testing.server.shapes.accounts import fields_of, value_for


def read_authorization_request(provider: Provider | None, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of an authorization request under the RFC's names.

    ``scope`` is separated by spaces and has the scopes of all parameters.
    """
    request = dict(parameters)
    if provider is None:
        return request
    rules = provider.authorize
    if rules.client_id_parameter in request:
        request["client_id"] = request.pop(rules.client_id_parameter)
    scopes = requested_scopes(provider, parameters)
    for name in (rules.scope_parameter, *rules.extra_scopes):
        request.pop(name, None)
    if scopes:
        request["scope"] = " ".join(scopes)
    if request.get("code_challenge_method") == rules.code_challenge_method == "s256":
        request["code_challenge_method"] = "S256"
    return request


def requested_scopes(provider: Provider | None, parameters: Mapping[str, str]) -> list[str]:
    """Return the scopes that a request asks for, in all parameters that have scopes, without repetition."""
    if provider is None:
        return [*dict.fromkeys(parameters.get("scope", "").split())]
    rules = provider.authorize
    names = (rules.scope_parameter, provider.device.scope_parameter, *rules.extra_scopes)
    texts = [parameters[name] for name in dict.fromkeys(names) if name and parameters.get(name)]
    separator = rules.scope_separator
    scopes = chain.from_iterable(text.split(separator) if separator else [text] for text in texts)
    return [scope for scope in dict.fromkeys(scopes) if scope]


def authorization_query(provider: Provider) -> str:
    """Return a query for the authorization endpoint, with placeholders of variables, or "".

    A callback must repeat what the user entered, for example a shop. The fake provider has one host, so the
    request names it in the query instead.
    """
    pairs = [f"{field}={{{name}}}" for name, field in _repeated(provider)]
    return f"?{'&'.join(pairs)}" if pairs else ""


def _repeated(provider: Provider) -> list[tuple[str, str]]:
    """Return the variables that a callback must repeat, each with its parameter."""
    return [(name, one.field) for name, one in provider.variables.items() if one.field and not one.is_late]


def callback_parameters(
    provider: Provider | None,
    parameters: Mapping[str, str],
    client_secret: str = "",
    *,
    account: Account | None = None,
    request: Mapping[str, str] = {},
) -> dict[str, str]:
    """Return the parameters of an authorization response as the provider writes and signs them.

    ``parameters``: under the RFC's names. ``scope`` is separated by spaces. ``account``: the account that the
    user chose, or None for an error. ``request``: the parameters of the authorization request.
    """
    sent = {name: value for name, value in parameters.items() if value}
    if provider is None:
        return sent
    if "code" in sent:
        sent[provider.callback.code_parameter] = sent.pop("code")
    if "error" in sent:
        sent["error"] = _own_error(provider, sent["error"])
    if "scope" in sent:
        sent["scope"] = provider.authorize.scope_separator.join(sent["scope"].split())
    if account is not None:
        sent |= fields_of(provider, "callback", account)
    for name, field in _repeated(provider):
        sent[field] = request.get(field) or value_for(provider, name)
    return _signed(provider, sent, client_secret)


def _own_error(provider: Provider, error: str) -> str:
    return next((own for own, meaning in provider.callback.errors.items() if meaning == error), error)


def _signed(provider: Provider, sent: dict[str, str], client_secret: str) -> dict[str, str]:
    """Return the parameters with their signature, if this provider signs responses (Shopify)."""
    if provider.callback.verify == "none":
        return sent
    message = "&".join(
        sorted(f"{_escaped(name, '%&=')}={_escaped(value, '%&')}" for name, value in sent.items())
    )
    secret = client_secret or provider.secret()
    return {**sent, "hmac": hmac.new(secret.encode(), message.encode(), sha256).hexdigest()}


def _escaped(text: str, characters: str) -> str:
    """Percent-encode these characters, which separate the parameters."""
    return "".join(quote(one, safe="") if one in characters else one for one in text)
