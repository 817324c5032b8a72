"""The URLs to which requests may be sent, and the URLs to which a token may be sent.

The checks use the parser of urllib3, which later opens the connection. So both see the same host.
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
# The characters of RFC 3986, without those that are special in a shell.
_SAFE_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!*+,;=&%-]+")
# Every parser ends the host of such a URL at the same place: it has no user information, no backslash, no
# control character, and no escape in the host.
_PLAIN = re.compile(r"(https?://[a-z0-9.-]+(?::[0-9]{1,5})?)(?:[/?#][!-\[\]-~]*)?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL (RFC 6454 section 4)."""

    scheme: str
    host: str
    port: int

    @property
    def is_trustworthy(self) -> bool:
        """Return whether it is https, or http within this machine (RFC 8252 section 8.3)."""
        return self.scheme == "https" or (self.scheme == "http" and is_loopback(self.host))


def is_loopback(host: str) -> bool:
    """Return whether a host is "localhost" or a literal loopback address. Resolves no name."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    # Python 3.13 treats ::ffff:127.0.0.1 as loopback, earlier versions do not. Refuse it in all of them.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute http(s) URL.

    Raises ForbiddenDestination for any other URL, and for user information in the URL.
    """
    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise ForbiddenDestination("This is not a valid URL.") from None
    if parsed.scheme not in DEFAULT_PORTS or not parsed.host:
        raise ForbiddenDestination("Use an absolute https:// URL.")
    if parsed.auth is not None or "\\" in url:
        raise ForbiddenDestination("A URL must not contain user information or backslashes.")
    port = DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    return Origin(parsed.scheme, parsed.host.lower(), port)


def plain_origin(url: str) -> str:
    """Return the text of a URL up to its path, if ``origin_of`` depends on nothing else of it, or "".

    So ``origin_of`` returns the same for each URL with this text, and raises for each or for none.
    """
    found = _PLAIN.fullmatch(url)
    return found[1] if found else ""


def below(url: str, base: str) -> str | None:
    """Return the part of a URL after a base URL, or None if it is elsewhere. The part may be empty."""
    try:
        ours, whole = parse_url(base), parse_url(url)
        is_same = origin_of(base) == origin_of(url)
    except (ForbiddenDestination, LocationParseError):
        return None
    path, prefix = whole.path or "", (ours.path or "").rstrip("/")
    if not is_same or not f"{path}/".startswith(f"{prefix}/"):
        return None
    return Url(path=path.removeprefix(prefix), query=whole.query, fragment=whole.fragment).url


def endpoint_problem(url: str) -> str:
    """Return why a URL cannot be an endpoint (RFC 6749 section 3.1), or "" if it can."""
    try:
        origin = origin_of(url)
    except ForbiddenDestination as refused:
        return str(refused)
    if not origin.is_trustworthy:
        return "Use https. Plain http is allowed for loopback addresses only."
    if parse_url(url).fragment is not None:
        return "An endpoint must not have a fragment (RFC 6749 section 3.1)."
    return ""


def parse_hosts(hosts: Iterable[str]) -> frozenset[tuple[str, int | None]]:
    """Split ``host``, ``host:port`` and ``*.host`` entries into (host, port) pairs.

    The port None means the scheme's default port. The star matches one whole label, as in a certificate.
    Raises ForbiddenDestination for any other entry.
    """
    return frozenset(map(_parse_host, hosts))


def _parse_host(entry: str) -> tuple[str, int | None]:
    star, rest = ("*.", entry[2:]) if entry.startswith("*.") else ("", entry)
    try:
        parsed = parse_url(f"//{rest}")
    except LocationParseError:
        parsed = Url()
    is_plain = parsed == Url(host=parsed.host, port=parsed.port) and not re.search(
        r"[\s*]", parsed.host or ""
    )
    if not parsed.host or not is_plain:
        raise ForbiddenDestination(f"{entry!r} is not a host. Write 'host', 'host:port' or '*.host'.")
    if star and not _has_two_labels(parsed.host):
        raise ForbiddenDestination(f"{entry!r} is too wide. Write at least two labels after the star.")
    return star + parsed.host.lower(), parsed.port


def _has_two_labels(host: str) -> bool:
    labels = host.split(".")
    return len(labels) > 1 and all(labels) and not labels[-1].isdigit()


def allows(hosts: frozenset[tuple[str, int | None]], origin: Origin) -> bool:
    """Return whether a token may be sent to an origin. It must use https or loopback, and be in ``hosts``."""
    label, _, parent = origin.host.partition(".")
    names = (origin.host, f"*.{parent}") if label else (origin.host,)
    return origin.is_trustworthy and any(_contains(hosts, name, origin) for name in names)


def names(hosts: frozenset[tuple[str, int | None]], origin: Origin) -> bool:
    """Return whether ``hosts`` names an origin's host in full. A star in a URL's host names nothing."""
    return "*" not in origin.host and _contains(hosts, origin.host, origin)


def _contains(hosts: frozenset[tuple[str, int | None]], name: str, origin: Origin) -> bool:
    is_default = origin.port == DEFAULT_PORTS[origin.scheme]
    return (name, origin.port) in hosts or (is_default and (name, None) in hosts)


def browsable(url: object) -> str:
    """Return the URL if a terminal command may open it in a browser: https, or http on this machine.

    The URL comes from settings, discovery or a server. ``webbrowser.open`` passes it to a program. Other text
    could be an option or a command there. Raises ForbiddenDestination.
    """
    if not isinstance(url, str) or len(url) > MAX_BROWSABLE or not _SAFE_URL.fullmatch(url):
        raise ForbiddenDestination(
            "The provider sent an address that is not a plain https URL. It is not opened and not shown."
        )
    if problem := endpoint_problem(url):
        raise ForbiddenDestination(f"The provider sent an address that must not be opened. {problem}")
    return url
