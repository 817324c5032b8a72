"""The addresses to which a discovered provider may cause a connection.

A discovered provider names its own endpoints. Without a check it could make this site send requests to its
internal servers (OWASP: server-side request forgery).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net.destination import origin_of

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Resolvers read these as IPv4 addresses, but RFC 3986 does not: 2130706433, 0x7f.1, 127.1
_NUMERIC = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)\.?", re.IGNORECASE | re.DOTALL)


class AddressRefused(Exception):
    """A host is, or resolves to, a forbidden address. Nothing was sent.

    Not a ``requests.RequestException``, because urllib3 would treat it as a broken connection.
    """


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Permits connections to public addresses, and to ``private_hosts`` at any address."""

    private_hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "private_hosts", frozenset(map(_normalized, self.private_hosts)))

    def is_exempt(self, host: str) -> bool:
        return _normalized(host) in self.private_hosts

    def permits(self, host: str, address: str) -> bool:
        """Return whether connections to a host at this resolved address are permitted."""
        return self.is_exempt(host) or is_public(address)

    def url_problem(self, url: str) -> str:
        """Return why a URL is refused, or "" if it is not. Reads only the text and resolves no name."""
        try:
            host = origin_of(url).host
        except ForbiddenDestination as refused:
            return str(refused)
        if self.is_exempt(host) or not _is_private_as_written(host):
            return ""
        return refusal(host)


def refusal(host: str) -> str:
    return (
        f"{host} is not a public address, or not written as one. To allow it, "
        'add the host to OAUTH_CONNECT["DISCOVERY_PRIVATE_HOSTS"].'
    )


def is_public(address: str) -> bool:
    """Return whether an IP address is public. Check the IPv4 address inside an IPv6 address too."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    embedded = ip.ipv4_mapped or ip.sixtofour
    if ip in _NAT64:
        embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return is_public(str(embedded)) if embedded else ip.is_global and ip in _GLOBAL_UNICAST


def _normalized(host: str) -> str:
    return host.strip("[]").lower()


def _is_private_as_written(host: str) -> bool:
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not is_public(_normalized(host))
    except ValueError:
        return bool(_NUMERIC.fullmatch(host))
