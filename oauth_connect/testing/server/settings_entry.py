"""The entry of PROVIDERS with which a site uses the fake provider, to paste into its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from oauth_connect import presets
from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.provider import ENDPOINTS, NESTED_ENDPOINTS, Provider
from oauth_connect.testing.server import shapes
from oauth_connect.testing.server.fake_server import FakeServer
from oauth_connect.testing.server.rules import CLIENT_ID, CLIENT_SECRET

PLAIN = "fake"  # the name of the entry without a preset
SCOPES = ["read", "write"]


def entry_for(server: FakeServer, preset: str | None) -> dict[str, Any]:
    """Return the entry: this server's addresses, and a client. The rest is what the preset says.

    Raises InvalidProvider if there is no such preset.
    """
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    if preset is None:
        flag = {"authorization_response_iss_parameter_supported": True}
        api = {"api_base_url": server.api_base_url}
        return {**client, **server.endpoints(), **flag, **api, "scopes": SCOPES}
    data = presets.load(preset)
    if data is None:
        raise InvalidProvider(presets.missing(preset))
    entry = {"preset": preset, **client, **_addresses(server, data), "scopes": _scopes(preset, data)}
    if hooks := data.get("hooks"):  # they sign for the real provider, or register there
        entry["hooks"] = dict.fromkeys(hooks, "")
    provider = provider_of(preset, entry)
    if query := shapes.authorization_query(provider):
        entry["authorization_endpoint"] += query
    if missing := missing_variables(provider):
        entry["variables"] = missing
    return entry


def provider_of(slug: str, entry: Mapping[str, Any]) -> Provider:
    """Return the provider of an entry, as the settings of a site define it. Raises InvalidProvider."""
    preset = presets.load(entry.get("preset", "")) or {}
    own = {name: value for name, value in entry.items() if name != "preset"}
    return Provider.from_mapping(slug, presets.compose(preset, own))


def lines(slug: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines to paste. They leave the site's other providers in the settings."""
    yield f'OAUTH_CONNECT.setdefault("PROVIDERS", {{}})[{_literal(slug)}] = {{'
    for name, value in entry.items():
        yield f"    {_literal(name)}: {_literal(value)},"
    yield "}"


def _addresses(server: FakeServer, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return this server's URLs for those that a preset has."""
    hosts: dict[str, Any] = {"api_hosts": []} if data.get("api_hosts") else {}
    api = {"api_base_url": server.api_base_url, **hosts}
    return {**endpoints_for(server, data), **api, **nested_endpoints_for(server, data)}


def endpoints_for(server: FakeServer, data: Mapping[str, Any]) -> dict[str, str]:
    """Return this server's issuer and endpoints, for those that an entry or a preset has."""
    ours = server.endpoints()
    return {name: ours[name] for name in ("issuer", *ENDPOINTS) if data.get(name)}


def nested_endpoints_for(server: FakeServer, data: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the same for the endpoints in the tables of an entry."""
    urls = {"refresh": server.endpoints()["token_endpoint"], "accounts": server.accounts_url}
    found: dict[str, dict[str, str]] = {}
    for part, name in NESTED_ENDPOINTS:
        table = data.get(part)
        if isinstance(table, Mapping) and table.get(name):
            found.setdefault(part, {})[name] = urls[part]
    return found


def missing_variables(provider: Provider) -> dict[str, str]:
    """Return a value for each variable that the settings must have."""
    return {name: shapes.value_for(provider, name) for name in provider.missing_variables()}


def _scopes(preset: str, data: Mapping[str, Any]) -> list[str]:
    """Return the scopes of a preset, else the first that it describes."""
    if "scopes" in data:
        return list(data["scopes"])
    about = presets.about(preset)
    return list(about.scope_labels)[:1] if about else []


def _literal(value: object) -> str:
    """Return a value as Python source, with double quotes."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_literal(name)}: {_literal(one)}" for name, one in value.items())
        return f"{{{pairs}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)
