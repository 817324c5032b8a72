"""Rules for a token in API requests, the same for every HTTP library."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from functools import lru_cache

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.net.destination import Origin
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.templates import without_missing
from oauth_connect.protocol.token import Token

# Where the variable is one of several sites of the account.
CHOOSE = (
    "Let the user choose a site of the account, on the page oauth_connect:site. session_for() raises "
    "ReauthorizationRequired with its URL instead."
)
MAX_HOST_LISTS = 256
MAX_ALLOWED = 64  # a star in ``api_hosts`` allows any number


@lru_cache(maxsize=MAX_HOST_LISTS)
def _allowed(hosts: frozenset[tuple[str, int | None]], guard: AddressGuard | None) -> set[str]:
    """Return the origins that passed the check with these hosts and this guard, as ``plain_origin`` has them.

    A call checks its URL twice: as the caller wrote it, and as requests prepared it.
    """
    return set()


class Bearer:
    """Decides where a token may go, in which header, and whether a response refuses it (RFC 6750)."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.header = provider.api.header
        self.hosts = provider.token_hosts()
        self.guard = provider.api_guard

    @property
    def private_headers(self) -> tuple[str, ...]:
        """The headers for the API alone. An API's key may be among ``api.headers``."""
        return (self.header, "Authorization", "Proxy-Authorization", *self.provider.api.headers)

    def check_destination(self, url: str) -> None:
        """Raise ForbiddenDestination unless a token may be sent to this URL."""
        self.check_url(url)
        allowed = _allowed(self.hosts, self.guard)
        text = destination.plain_origin(url)
        if text in allowed:
            return
        self.check(destination.origin_of(url))
        if text and len(allowed) < MAX_ALLOWED:
            allowed.add(text)

    def check(self, origin: Origin) -> None:
        """Raise ForbiddenDestination unless a token may be sent to this origin."""
        if not destination.allows(self.hosts, origin):
            raise ForbiddenDestination(
                f"{self.provider.label}'s token may not be sent to this host, or not without https. Nothing "
                f"was sent. The hosts that may receive it are listed in api_hosts of {self.provider.slug!r}."
            )
        if self.guard is not None and (problem := self.guard.host_problem(origin.host)):
            raise ForbiddenDestination(f"{problem} Nothing was sent.")

    def relocated(self, url: str, left: Iterable[str]) -> str:
        """Return a URL at the present ``api_base_url``, if it is at one that the connection has left."""
        base = self.provider.api_base_url
        for old in left:
            if old and base and old != base and (rest := destination.below(url, old)) is not None:
                return base.rstrip("/") + rest
        return url

    def follow_headers(self, headers: MutableMapping[str, str], first: Provider) -> None:
        """Write the present values of ``api.headers`` over those with which a session began at ``first``.

        A value that the caller has set stays. A header that had no value then may have one now.
        """
        if first is self.provider:
            return
        before, present = without_missing(first.api.headers), without_missing(self.provider.api.headers)
        for name in {**before, **present}:
            if headers.get(name) != before.get(name):
                continue
            if name in present:
                headers[name] = present[name]
            else:
                del headers[name]

    def check_url(self, url: str) -> None:
        """Raise ForbiddenDestination for a URL that contains a placeholder of the provider's entry."""
        for name, variable in self.provider.variables.items():
            if f"{{{name}}}" in url or f"%7B{name}%7D" in url:
                raise ForbiddenDestination(
                    f"This connection has no value for the variable {name} of {self.provider.label}. Nothing "
                    f"was sent. {CHOOSE if variable.source == 'accounts' else 'Connect the account again.'}"
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
        """Return whether a redirect keeps the token.

        One within the origin does, and one to a host that ``api_hosts`` names in full. A star there names no
        host, so the API's page could choose one. Raises ForbiddenDestination for a redirect to plain http,
        which must not be followed, and for a host that the guard refuses.
        """
        if not target.is_trustworthy:
            raise ForbiddenDestination("The API redirects to plain http. The redirect was not followed.")
        if target == source:
            return destination.allows(self.hosts, target)
        if target.scheme != source.scheme or not destination.names(self.hosts, target):
            return False
        self.check(target)
        return True
