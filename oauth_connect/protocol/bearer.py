"""What every client of an API decides about a token, whichever library sends the request."""

from __future__ import annotations

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.net.destination import Origin
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token


class Bearer:
    """Where a provider's token may go, in which header, and what a refusal of it is (RFC 6750)."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.header = provider.api.header
        self.hosts = provider.token_hosts()

    def check(self, origin: Origin) -> None:
        """Raise ForbiddenDestination unless a token may be sent there."""
        if not destination.allows(self.hosts, origin):
            raise ForbiddenDestination(
                f"{self.provider.label}'s token is not sent to this host or without https; nothing "
                f"was sent. Hosts that may see it are listed in api_hosts of {self.provider.slug!r}."
            )

    def value(self, token: Token) -> str:
        """Return what the header says (RFC 6750 section 2.1)."""
        return f"{self.provider.api.scheme} {token.access_token}".strip()

    def is_refused(self, token: Token, *, status: int, sent: str | None) -> bool:
        """Tell whether an answer refuses *this* token, by what the header of its request said.

        A redirect may have taken the token off: then a 401 says nothing about it. A 403 wants other scopes,
        which no newer token has (RFC 6750 section 3.1).
        """
        return status == 401 and sent == self.value(token)

    def goes_along(self, came_from: Origin, target: Origin) -> bool:
        """Tell whether a redirect keeps the token: only to the same origin.

        Raises ForbiddenDestination for one down to plain http, which is not followed at all.
        """
        if not target.is_trustworthy:
            raise ForbiddenDestination("The API redirects to plain http; the redirect was not followed.")
        return target == came_from and destination.allows(self.hosts, target)
