"""What an authorization response says beyond RFC 6749: signed parameters, and values of variables."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from oauth_connect.errors import CallbackRefused, InvalidProvider
from oauth_connect.protocol.messages import PARAMETER_LIMIT
from oauth_connect.protocol.provider import Provider

Pairs = Iterable[tuple[str, str]]
BASIC_PARAMETERS = ("code", "state", "error", "error_description", "error_uri", "iss")


def check_signature(provider: Provider, pairs: Pairs) -> None:
    """Verify a signed answer where the provider signs them. Raises CallbackRefused.

    Any secret that is valid now may have signed: secrets are changed while people are on their way.
    """
    if provider.callback.verify == "none":
        return
    pairs = list(pairs)
    given = [value for name, value in pairs if name == "hmac"]
    message = "&".join(sorted(_escaped(name, value) for name, value in pairs if name != "hmac"))
    right = [hmac.new(secret.encode(), message.encode(), sha256).hexdigest() for secret in provider.secrets()]
    matches = [hmac.compare_digest(one.encode(), "".join(given).encode()) for one in right]
    if len(given) != 1 or not any(matches):
        raise CallbackRefused(f"{provider.label} did not sign this answer.", code="signature_invalid")


def _escaped(name: str, value: str) -> str:
    def escape(text: str) -> str:
        return text.replace("%", "%25").replace("&", "%26")

    return f"{escape(name).replace('=', '%3D')}={escape(value)}"


def callback_values(provider: Provider, pairs: Pairs, known: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that the callback sets or repeats; a repeated one must be what it was.

    ``provider`` still has its variables; ``known`` are the values that the flow began with. Raises
    CallbackRefused, with the path of the variable.
    """
    found = _parameters(provider, pairs)
    values = {}
    for name, variable in provider.asked_of("callback").items():
        values[name] = value_from(provider, name, found.get(variable.field or name))
    for name, variable in {**provider.asked_of("user"), **provider.asked_of("config")}.items():
        if not variable.field:
            continue
        began_with = provider.value_of(name, known.get(name) or variable.default)
        values[name] = value_from(provider, name, found.get(variable.field))
        if values[name] != began_with:
            raise CallbackRefused(
                f"{provider.slug}.variables.{name}: the answer names another one than the flow began with.",
                code="variable_mismatch",
            )
    return values


def value_from(provider: Provider, name: str, given: object) -> str:
    """Return a variable's value from what the provider sent. Raises CallbackRefused."""
    try:
        return provider.value_of(name, given)
    except InvalidProvider as error:
        raise CallbackRefused(str(error), code="variable_refused") from None


def parameters_of(provider: Provider) -> frozenset[str]:
    """Return the names of all parameters that an answer of this provider may bring and that are used."""
    fields = {one.field or name for name, one in provider.variables.items() if one.source == "callback"}
    fields |= {one.field for one in provider.variables.values() if one.field and not one.is_late}
    return frozenset({*BASIC_PARAMETERS, *fields})


def _parameters(provider: Provider, pairs: Pairs) -> dict[str, str]:
    wanted = parameters_of(provider)
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in wanted:
            continue
        if name in found:
            raise CallbackRefused(f"The answer repeats the parameter {name}.", code="repeated_parameter")
        if len(value) <= PARAMETER_LIMIT:
            found[name] = value
    return found
