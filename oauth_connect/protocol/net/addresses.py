"""The addresses to which a provider may cause a connection whose URLs the settings did not name.

An issuer's metadata, or a user's text in an entry of PROVIDER_LOADER, names the URLs. Without a check they
could make this site send requests to its internal servers (OWASP: server-side request forgery).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net.destination import origin_of

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Services of clouds for their own machines. Azure's has a public address (docs: "IP address 168.63.129.16").
# Some Pythons count the range of Oracle's as public.
_CLOUD_SERVICES = frozenset(map(ipaddress.IPv4Address, ("168.63.129.16", "192.0.0.192")))
# Resolvers read these as IPv4 addresses, but RFC 3986 does not: 2130706433, 0x7f.1, 127.1
_NUMERIC = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)\.?", re.IGNORECASE | re.DOTALL)


def is_literal(host: str) -> bool:
    """Return whether a host is an IP address and not a name."""
    try:
        ipaddress.ip_address(_normalized(host))
    except ValueError:
        return False
    return True


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
            return self.host_problem(origin_of(url).host)
        except ForbiddenDestination as refused:
            return str(refused)

    def host_problem(self, host: str) -> str:
        """Return why a host is refused as it is written, or "" if it is not. Resolves no name."""
        return "" if self.is_exempt(host) or not _is_private_as_written(host) else refusal(host)

    def check_resolved(self, host: str, addresses: Iterable[str]) -> None:
        """Raise AddressRefused unless every address to which a host resolves is permitted."""
        if not all(self.permits(host, address) for address in addresses):
            raise AddressRefused(refusal(host))


def refusal(host: str) -> str:
    return (
        f"{host} is not a public address, or not written as one. To allow it, "
        'add the host to OAUTH_CONNECT["DISCOVERY_PRIVATE_HOSTS"].'
    )


def is_public(address: str) -> bool:
    """Return whether an IP address is public. Check the IPv4 address inside an IPv6 address too."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and ip not in _CLOUD_SERVICES
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
