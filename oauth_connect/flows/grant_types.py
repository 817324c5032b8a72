"""Refuses a flow whose grant the provider's entry excludes (RFC 7591 section 2, ``grant_types``)."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import GrantType


def check_allowed(provider: Provider, grant_type: GrantType) -> None:
    """Raise ImproperlyConfigured if the provider's entry, or its issuer's metadata, excludes a grant."""
    if not provider.allows(grant_type):
        raise ImproperlyConfigured(excluded(provider.slug, grant_type))


def excluded(slug: str, grant_type: GrantType) -> str:
    """Return the message about a grant that is excluded."""
    return (
        f"{slug}.grant_types: without {grant_type}, in the entry or in the issuer's metadata. Add it to the "
        "entry's list if this client may use the grant."
    )
