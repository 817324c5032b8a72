"""The authorization response: its parameters, issuer, signature, and values of variables."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

from oauth_connect.errors import CallbackRefused, InvalidProvider, printable_line
from oauth_connect.protocol.grants.id_tokens import ISSUER_LIMIT
from oauth_connect.protocol.grants.responses import is_printable
from oauth_connect.protocol.provider import Provider
from oauth_connect.redaction import redacted

Pairs = Iterable[tuple[str, str]]
PARAMETER_LIMIT = 4096
URL_LIMIT = 6000  # characters before encoding, of all parameters that a redirect repeats
# Tokens, and the name and address that Apple posts.
NEVER_IN_A_URL = frozenset({"id_token", "access_token", "refresh_token", "user"})


@dataclass(frozen=True, slots=True, repr=False)
class Callback:
    """An authorization response (RFC 6749 section 4.1.2), each parameter at most once."""

    state: str = ""
    code: str = ""
    error: str = ""
    error_description: str = ""
    error_uri: str = ""
    iss: str | None = None


# Of an error response that has no ``error``, as Facebook sends it if the app's settings are wrong.
OTHER_NAMES = {"error_code": "error", "error_message": "error_description"}
BASIC_PARAMETERS = frozenset(field.name for field in fields(Callback))


def redirected(pairs: Pairs) -> list[tuple[str, str]]:
    """Return the parameters of a posted response that a redirect to GET may have in its URL.

    Tokens and personal data are left out, because URLs are logged. The code flow needs neither. A response
    that is too long for a URL keeps its ``state`` only, so that the flow ends.
    """
    kept = [(name, value) for name, value in pairs if name not in NEVER_IN_A_URL]
    if sum(len(name) + len(value) for name, value in kept) <= URL_LIMIT:
        return kept
    return [(name, value) for name, value in kept if name == "state" and len(value) <= PARAMETER_LIMIT][:1]


def read_callback(pairs: Iterable[tuple[str, str]], code_parameter: str = "code") -> Callback:
    """Read the query of an authorization response and ignore unknown parameters (RFC 6749 section 4.1.2).

    ``code_parameter``: the provider's own name of ``code``. Raises CallbackRefused for a repeated, overlong
    or unprintable parameter (RFC 6749 section 3.1, appendix A). A description with line breaks is accepted,
    because real providers send them.
    """
    pairs = list(pairs)
    found: dict[str, str] = {}
    for name, value in _once(pairs, BASIC_PARAMETERS - {"code"} | {code_parameter}):
        if name == "error_description":
            value = printable_line(value)
        elif len(value) > PARAMETER_LIMIT or not is_printable(value):
            raise CallbackRefused(
                f"The parameter {name} of the response is malformed.", code="malformed_parameter"
            )
        found["code" if name == code_parameter else name] = value
    found = {name: value for name, value in found.items() if value}  # empty is absent (section 3.1)
    if found.get("code") and found.get("error"):
        raise CallbackRefused("The response contains both a code and an error.", code="malformed_parameter")
    if not found.get("code") and not found.get("error"):
        found = {**_error_under_other_names(pairs), **found}
    return Callback(**found)


def _error_under_other_names(pairs: Pairs) -> dict[str, str]:
    """Return the error of a response that names it otherwise than RFC 6749 section 4.1.2.1."""
    said = {OTHER_NAMES[name]: printable_line(value) for name, value in pairs if name in OTHER_NAMES}
    return {name: value for name, value in said.items() if value}


def _once(pairs: Pairs, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the parameters with these names. Raises CallbackRefused for a repeated one."""
    seen = set()
    for name, value in pairs:
        if name in names:
            if name in seen:
                raise CallbackRefused(
                    f"The response repeats the parameter {name}.", code="repeated_parameter"
                )
            seen.add(name)
            yield name, value


def check_issuer(provider: Provider, iss: str | None, *, several_servers: bool = False) -> None:
    """Compare ``iss`` with the provider's issuer exactly (RFC 9207 section 2.4). Raises CallbackRefused.

    ``several_servers``: other servers answer under the same name. Then a provider without an issuer accepts
    no ``iss``, because it names another of them.
    """
    if iss is None:
        if provider.authorization_response_iss_parameter_supported:
            raise CallbackRefused("The response has no iss parameter.", code="issuer_missing")
    elif (provider.issuer or several_servers) and iss != provider.issuer:
        named = redacted(printable_line(iss, ISSUER_LIMIT))
        raise CallbackRefused(
            f"The response comes from another server: it names the issuer {named!r}, and the issuer of "
            f"{provider.slug!r} is {provider.issuer!r}. If both are the same server, correct the entry.",
            code="issuer_mismatch",
        )


def check_signature(provider: Provider, pairs: Pairs) -> None:
    """Verify the response's signature, if this provider signs responses. Raises CallbackRefused.

    Every valid secret is tried, because a secret may be changed while the user is at the provider.
    """
    if provider.callback.verify == "none":
        return
    pairs = list(pairs)
    received = [value for name, value in pairs if name == "hmac"]
    message = "&".join(sorted(_escaped(name, value) for name, value in pairs if name != "hmac"))
    expected = [
        hmac.new(secret.encode(), message.encode(), sha256).hexdigest() for secret in provider.secrets()
    ]
    matches = [hmac.compare_digest(digest.encode(), "".join(received).encode()) for digest in expected]
    if len(received) != 1 or not any(matches):
        raise CallbackRefused(f"{provider.label} did not sign this response.", code="signature_invalid")


def _escaped(name: str, value: str) -> str:
    def escape(text: str) -> str:
        return text.replace("%", "%25").replace("&", "%26")

    return f"{escape(name).replace('=', '%3D')}={escape(value)}"


def callback_values(provider: Provider, pairs: Pairs, started_with: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the variables that the callback sets or repeats.

    A repeated value must be the one in ``started_with``, the values at the start of the flow. ``provider``
    must not be resolved yet. Raises CallbackRefused with the path of the variable.
    """
    found = _parameters(provider, pairs)
    values = {}
    for name, variable in provider.asked_of("callback").items():
        values[name] = value_from(provider, name, found.get(variable.field or name))
    for name, variable in {**provider.asked_of("user"), **provider.asked_of("config")}.items():
        if not variable.field:
            continue
        expected = provider.value_of(name, started_with.get(name) or variable.default)
        values[name] = value_from(provider, name, found.get(variable.field))
        if values[name] != expected:
            raise CallbackRefused(
                f"{provider.slug}.variables.{name}: the response has another value than the request had.",
                code="variable_mismatch",
            )
    return values


def value_from(provider: Provider, name: str, given: object) -> str:
    """Return a variable's value from a value that the provider sent. Raises CallbackRefused."""
    try:
        return provider.value_of(name, given)
    except InvalidProvider as error:
        raise CallbackRefused(str(error), code="variable_refused") from None


def parameters_of(provider: Provider) -> frozenset[str]:
    """Return the names of all parameters of this provider's authorization response that are used."""
    fields = {one.field or name for name, one in provider.variables.items() if one.source == "callback"}
    fields |= {one.field for one in provider.variables.values() if one.field and not one.is_late}
    return frozenset({*BASIC_PARAMETERS, *fields})


def _parameters(provider: Provider, pairs: Pairs) -> dict[str, str]:
    wanted = _once(pairs, parameters_of(provider))
    return {name: value for name, value in wanted if len(value) <= PARAMETER_LIMIT}
