"""The client secret of a site that signs in with Apple, as the site's own hook."""

from __future__ import annotations

from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from oauth_connect.contrib.apple import ClientSecret


def signed(provider: Any) -> str:
    """Return the secret for a client: the same one for the whole run, so that a test can expect it."""
    return _signed(provider.client_id)


@cache
def _signed(client_id: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret = ClientSecret(
        client_id=client_id, team_id="LOVELACE01", key_id="GOLDENKEY1", private_key=key.decode()
    )
    return secret()
