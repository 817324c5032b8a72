"""An authorization response: its parameters, who sent it, signatures, and values of variables."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

from oauth_connect.errors import CallbackRefused, InvalidProvider, printable_line
from oauth_connect.protocol.grants.responses import is_printable
from oauth_connect.protocol.provider import Provider

Pairs = Iterable[tuple[str, str]]
PARAMETER_LIMIT = 4096


@dataclass(frozen=True, slots=True, repr=False)
class Callback:
    """An authorization response (RFC 6749 section 4.1.2), each parameter at most once."""

    state: str = ""
    code: str = ""
    error: str = ""
    error_description: str = ""
    error_uri: str = ""
    iss: str | None = None


BASIC_PARAMETERS = frozenset(field.name for field in fields(Callback))


def read_callback(pairs: Iterable[tuple[str, str]]) -> Callback:
    """Read an authorization response's query. Unknown parameters are ignored (RFC 6749 section 4.1.2).

    Raises CallbackRefused for a repeated, overlong or unprintable parameter (RFC 6749 section 3.1,
    appendix A). A description may be anything: real ones have line breaks, and it is only words.
    """
    found: dict[str, str] = {}
    for name, value in _once(pairs, BASIC_PARAMETERS):
        if name == "error_description":
            value = printable_line(value)
        elif len(value) > PARAMETER_LIMIT or not is_printable(value):
            raise CallbackRefused(f"The answer's parameter {name} is malformed.", code="malformed_parameter")
        found[name] = value
    found = {name: value for name, value in found.items() if value}  # empty is absent (section 3.1)
    if found.get("code") and found.get("error"):
        raise CallbackRefused("The answer is both a success and an error.", code="malformed_parameter")
    return Callback(**found)


def _once(pairs: Pairs, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the parameters of these names. Raises CallbackRefused for a repeated one."""
    seen = set()
    for name, value in pairs:
        if name in names:
            if name in seen:
                raise CallbackRefused(f"The answer repeats the parameter {name}.", code="repeated_parameter")
            seen.add(name)
            yield name, value


def check_issuer(provider: Provider, iss: str | None) -> None:
    """Compare ``iss`` with the issuer the flow began with, exactly (RFC 9207 section 2.4)."""
    if iss is None:
        if provider.authorization_response_iss_parameter_supported:
            raise CallbackRefused("The answer does not say who sent it.", code="issuer_missing")
    elif provider.issuer and iss != provider.issuer:
        raise CallbackRefused("The answer comes from another server.", code="issuer_mismatch")


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
    wanted = _once(pairs, parameters_of(provider))
    return {name: value for name, value in wanted if len(value) <= PARAMETER_LIMIT}
