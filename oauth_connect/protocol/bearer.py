"""Rules for a token in API requests, the same for every HTTP library."""

from __future__ import annotations

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.net.destination import Origin
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token


class Bearer:
    """Decides where a token may go, in which header, and whether a response refuses it (RFC 6750)."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.header = provider.api.header
        self.hosts = provider.token_hosts()

    @property
    def private_headers(self) -> tuple[str, ...]:
        """The headers for the API alone. An API's key may be among ``api.headers``."""
        return (self.header, "Authorization", "Proxy-Authorization", *self.provider.api.headers)

    def check(self, origin: Origin) -> None:
        """Raise ForbiddenDestination unless a token may be sent to this origin."""
        if not destination.allows(self.hosts, origin):
            raise ForbiddenDestination(
                f"{self.provider.label}'s token may not be sent to this host, or not without https. Nothing "
                f"was sent. The hosts that may receive it are listed in api_hosts of {self.provider.slug!r}."
            )

    def value(self, token: Token) -> str:
        """Return the value of the header (RFC 6750 section 2.1)."""
        return f"{self.provider.api.scheme} {token.access_token}".strip()

    def is_refused(self, token: Token, *, status: int, sent: str | None) -> bool:
        """Return whether a response refuses *this* token. ``sent`` is the header's value in its request.

        A redirect may have removed the token. Then a 401 is not about the token. A 403 requires other scopes,
        which a newer token does not have either (RFC 6750 section 3.1).
        """
        return status == 401 and sent == self.value(token)

    def survives_redirect(self, source: Origin, target: Origin) -> bool:
        """Return whether a redirect keeps the token. Only a redirect to the same origin does.

        Raises ForbiddenDestination for a redirect to plain http, which must not be followed.
        """
        if not target.is_trustworthy:
            raise ForbiddenDestination("The API redirects to plain http. The redirect was not followed.")
        return target == source and destination.allows(self.hosts, target)
