"""What the fake provider does as the entry of a provider says. Its messages are written by ``shapes``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oauth_connect.protocol.provider import Provider
from oauth_connect.testing.server import shapes

CLIENT_ID = "fake-client"
CLIENT_SECRET = "fake-secret"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The behaviour of a provider. The defaults are those of a strict server by the RFCs.

    ``client_id``: "" accepts each client, because the provider registers them. ``revokes``: what a revocation
    ends. A ``family`` is one consent. ``grant`` and ``account`` mean what ``Revocation.effect`` says.
    """

    client_id: str = CLIENT_ID
    needs_pkce: bool = True
    needs_redirect_uri: bool = True
    names_issuer: bool = True
    issuer: str = ""
    tokens_expire: bool = True
    issues_refresh_tokens: bool = True
    rotates: bool = True
    revokes: Literal["token", "family", "grant", "account"] = "family"
    form_post: bool = False
    token_methods: frozenset[str] = frozenset({"POST"})


def rules_of(provider: Provider | None) -> Rules:
    """Return the rules of a provider's entry, or those of the RFCs without an entry."""
    if provider is None:
        return Rules()
    methods = {provider.token_request.method, provider.refresh.method or "POST"}
    return Rules(
        client_id="" if provider.hooks.register_client else provider.client_id,
        needs_pkce=provider.authorize.code_challenge_method != "none",
        needs_redirect_uri="redirect_uri" not in provider.token_request.omit,
        names_issuer=_names_issuer(provider),
        issuer=provider.issuer,
        tokens_expire=shapes.tokens_expire(provider),
        issues_refresh_tokens=shapes.issues_refresh_tokens(provider),
        rotates=shapes.rotates_refresh_tokens(provider),
        revokes=provider.revocation.effect,
        form_post=provider.authorize.response_mode == "form_post",
        token_methods=frozenset(methods),
    )


def _names_issuer(provider: Provider) -> bool:
    declared = provider.authorization_response_iss_parameter_supported
    return bool(provider.issuer) and (provider.needs_discovery if declared is None else declared)
