"""Which addresses may be connected to on the word of somebody else's document.

A discovered provider says itself where its endpoints are. It must not make this site's servers
speak to one another, or to what only they can reach (OWASP: server-side request forgery).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net.destination import origin_of

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# What resolvers take for an IPv4 address although RFC 3986 does not: 2130706433, 0x7f.1, 127.1
_NUMERIC = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)\.?", re.IGNORECASE | re.DOTALL)


class AddressRefused(Exception):
    """A host is, or resolves to, an address that must not be connected to; nothing was sent.

    Not a ``requests.RequestException``: urllib3 would take it for a connection that broke.
    """


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Lets connections through to public addresses, and to ``private_hosts`` wherever they are."""

    private_hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "private_hosts", frozenset(map(_bare, self.private_hosts)))

    def names(self, host: str) -> bool:
        return _bare(host) in self.private_hosts

    def permits(self, host: str, address: str) -> bool:
        """Tell whether a host may be connected to at this address, which it was resolved to."""
        return self.names(host) or is_public(address)

    def url_problem(self, url: str) -> str:
        """Say why a URL is refused as it is written; empty when it is not. Nothing is resolved."""
        try:
            host = origin_of(url).host
        except ForbiddenDestination as refused:
            return str(refused)
        if self.names(host) or not _is_private_as_written(host):
            return ""
        return refusal(host)


def refusal(host: str) -> str:
    return (
        f"{host} is not a public address, or not written as one. If it is meant, "
        'name the host in OAUTH_CONNECT["DISCOVERY_PRIVATE_HOSTS"].'
    )


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the internet's, looking into those that carry another."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    within = ip.ipv4_mapped or ip.sixtofour
    if ip in _NAT64:
        within = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return is_public(str(within)) if within else ip.is_global and ip in _GLOBAL_UNICAST


def _bare(host: str) -> str:
    return host.strip("[]").lower()


def _is_private_as_written(host: str) -> bool:
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not is_public(_bare(host))
    except ValueError:
        return bool(_NUMERIC.fullmatch(host))
