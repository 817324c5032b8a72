"""Which URLs may be spoken to, and which may be sent a token.

URLs are taken apart by urllib3's parser, the one that later opens the connection, so that
the check and the call cannot disagree about the host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from oauth_connect.errors import ForbiddenDestination

DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_BROWSABLE = 8192  # characters
# Of RFC 3986, without what a shell might read as more than a character; encoded, they do no harm.
_HARMLESS = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!*+,;=&%-]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL (RFC 6454 section 4)."""

    scheme: str
    host: str
    port: int

    @property
    def is_trustworthy(self) -> bool:
        """Https, or http that does not leave the machine (RFC 8252 section 8.3)."""
        return self.scheme == "https" or (self.scheme == "http" and is_loopback(self.host))


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by name or by literal address; nothing is resolved."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    # Python 3.13 calls ::ffff:127.0.0.1 loopback, earlier ones do not; nobody writes it in good faith.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute http(s) URL.

    Raises ForbiddenDestination for anything else, and for user information in the URL.
    """
    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise ForbiddenDestination("This is not a URL that can be called.") from None
    if parsed.scheme not in DEFAULT_PORTS or not parsed.host:
        raise ForbiddenDestination("Only absolute https:// URLs can be called.")
    if parsed.auth is not None or "\\" in url:
        raise ForbiddenDestination("A URL must not contain user information or backslashes.")
    port = DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    return Origin(parsed.scheme, parsed.host.lower(), port)


def endpoint_problem(url: str) -> str:
    """Say in a few words why a URL cannot be an endpoint; empty when it can (RFC 6749 section 3.1)."""
    try:
        origin = origin_of(url)
    except ForbiddenDestination as refused:
        return str(refused)
    if not origin.is_trustworthy:
        return "Use https; http is for loopback addresses only."
    if parse_url(url).fragment is not None:
        return "An endpoint has no fragment (RFC 6749 section 3.1)."
    return ""


def parse_hosts(hosts: Iterable[str]) -> frozenset[tuple[str, int | None]]:
    """Split ``host``, ``host:port`` and ``*.host`` entries; None stands for the scheme's own port.

    The star is one whole label, as in a certificate. Raises ForbiddenDestination for anything else.
    """
    return frozenset(map(_parse_host, hosts))


def _parse_host(entry: str) -> tuple[str, int | None]:
    star, named = ("*.", entry[2:]) if entry.startswith("*.") else ("", entry)
    try:
        parsed = parse_url(f"//{named}")
    except LocationParseError:
        parsed = Url()
    if not parsed.host or "*" in parsed.host or parsed != Url(host=parsed.host, port=parsed.port):
        raise ForbiddenDestination(f"{entry!r} is not a host; write 'host', 'host:port' or '*.host'.")
    if star and not _has_two_labels(parsed.host):
        raise ForbiddenDestination(f"{entry!r} is too wide; a star stands before two labels or more.")
    return star + parsed.host.lower(), parsed.port


def _has_two_labels(host: str) -> bool:
    labels = host.split(".")
    return len(labels) > 1 and all(labels) and not labels[-1].isdigit()


def allows(hosts: frozenset[tuple[str, int | None]], origin: Origin) -> bool:
    """Tell whether a token may be sent there: https (loopback aside), a named host, its port."""
    label, _, parent = origin.host.partition(".")
    names = (origin.host, f"*.{parent}") if label else (origin.host,)
    return origin.is_trustworthy and any(_is_named(hosts, name, origin) for name in names)


def _is_named(hosts: frozenset[tuple[str, int | None]], name: str, origin: Origin) -> bool:
    is_default = origin.port == DEFAULT_PORTS[origin.scheme]
    return (name, origin.port) in hosts or (is_default and (name, None) in hosts)


def browsable(url: object) -> str:
    """Return a URL that a browser may be sent to from a terminal: https, or http on this machine.

    The URL comes from settings, discovery or a server, and goes to ``webbrowser.open``, which starts a
    program with it. Anything but a plain URL could be an option or a command there. Raises
    ForbiddenDestination.
    """
    if not isinstance(url, str) or len(url) > MAX_BROWSABLE or not _HARMLESS.fullmatch(url):
        raise ForbiddenDestination(
            "The provider names an address that is not plain https; it is not opened and not shown."
        )
    if problem := endpoint_problem(url):
        raise ForbiddenDestination(f"The provider names an address that must not be opened: {problem}")
    return url
