"""Fills the variables of a provider into its URLs, parameters and headers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.net.registrable import PLACEHOLDER, netloc

# The order in which a flow learns values.
KNOWN_AFTER = {"config": 0, "user": 0, "callback": 1, "token_response": 2, "identity": 3, "accounts": 4}
STEPS = ("", "the callback", "the token response", "the account's document", "the request for accounts")
# The last step whose variables a field may have. A request that needs the field comes after this step.
LATEST = {
    "authorization_endpoint": 0,
    "device_authorization_endpoint": 0,
    "issuer": 0,
    "authorize.params": 0,
    "device.params": 0,
    "client_credentials.params": 0,
    "token_endpoint": 1,
    "token_request.params": 1,
    "token_request.headers": 1,
    "refresh.first_endpoint": 2,
    "introspection_endpoint": 2,
    "userinfo_endpoint": 2,
    "accounts.endpoint": 3,
    "identity.headers": 2,
}
# The tables in which values may have variables.
TABLES = (
    ("authorize", "params"),
    ("token_request", "params"),
    ("token_request", "refresh_params"),
    ("token_request", "headers"),
    ("client_credentials", "params"),
    ("device", "params"),
    ("identity", "headers"),
    ("api", "headers"),
    ("revocation", "params"),
)


def check_placeholders(field: str, text: str, sources: Mapping[str, str]) -> None:
    """Raise InvalidProvider for a placeholder without a variable, or whose value comes too late.

    ``sources``: the source of each variable. ``{client_id}`` is always allowed, and ``{token}`` in the
    parameters of a revocation.
    """
    for name in PLACEHOLDER.findall(text):
        if name == "client_id" or (name == "token" and field == "revocation.params"):
            continue
        if name not in sources:
            raise InvalidProvider(f"{field}: {{{name}}} is not among the provider's variables")
        step = KNOWN_AFTER[sources[name]]
        if step > LATEST.get(field, 4):
            raise InvalidProvider(f"{field}: {{{name}}} is known only after {STEPS[step]}, which is too late")


def has_brace(url: str) -> bool:
    """Return whether a URL still has a placeholder, so that no request may be sent to it."""
    return "{" in url or "}" in url


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its placeholders filled in. Those without a value remain."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def fill_url(field: str, url: str, values: Mapping[str, str]) -> str:
    """Fill in a URL. Raises InvalidProvider if a value moves the host's end, as one with a slash does.

    A value that begins with a slash is no part of the host: it begins the path.
    """
    filled = fill(url, values)
    in_host = {name: "" if value.startswith("/") else value for name, value in values.items()}
    if netloc(filled) != fill(netloc(url), in_host):
        raise InvalidProvider(f"{field}: the value of a variable changes the host. Correct its pattern")
    return filled


def fill_table(table: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: fill(text, values) for name, text in table.items()}


def without_missing(table: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters or headers whose variables all have values."""
    return {name: text for name, text in table.items() if not re.search(PLACEHOLDER, text)}
