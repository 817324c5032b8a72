"""The entries of the presets, as a site has them, with a client."""

from __future__ import annotations

from typing import Any

from oauth_connect import presets
from oauth_connect.protocol.provider import Provider

CLIENT = {"client_id": "the-client", "client_secret": "the+secret/="}
NAMES = presets.names()


def provider_of(name: str, **entry: Any) -> Provider:
    """Return the provider of a preset. Fields of ``entry`` win."""
    preset = presets.load(name)
    assert preset is not None
    return Provider.from_mapping(name, presets.compose(preset, {**CLIENT, **entry}))


def own(**entry: Any) -> Provider:
    """Return the provider of an entry without a preset."""
    endpoints = {name: f"https://id.example/{name}" for name in ("authorization_endpoint", "token_endpoint")}
    return Provider.from_mapping("own", {**CLIENT, **endpoints, **entry})
