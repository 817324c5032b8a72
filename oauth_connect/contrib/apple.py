"""The client secret of Sign in with Apple: a signed statement instead of a fixed secret (RFC 7515, ES256)."""

from __future__ import annotations

import time
from typing import Any

import jwt
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.tracebacks import methods_without_locals

AUDIENCE = "https://appleid.apple.com"
LIFETIME = 300  # seconds; a new one is made for each request


@methods_without_locals
class ClientSecret:
    """Makes the secret for each request. Set it as ``client_secret`` of the provider's entry.

    ``client_id``: the Services ID. ``private_key``: the content of the .p8 file that Apple issued (PEM).
    Needs PyJWT (the extra ``signing``).
    """

    def __init__(self, *, client_id: str, team_id: str, key_id: str, private_key: str) -> None:
        self.client_id = client_id
        self.team_id = team_id
        self.key_id = key_id
        self._private_key = private_key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key_id}>"

    def __call__(self) -> str:
        """Return a new secret. Raises ImproperlyConfigured for a key that cannot sign."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.team_id,
            "iat": now,
            "exp": now + LIFETIME,
            "aud": AUDIENCE,
            "sub": self.client_id,
        }
        try:
            return jwt.encode(claims, self._private_key, algorithm="ES256", headers={"kid": self.key_id})
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            problem = type(error).__name__
        raise ImproperlyConfigured(
            f"apple.ClientSecret: the key cannot sign ({problem}). Set private_key to the content of the "
            ".p8 file."
        )
