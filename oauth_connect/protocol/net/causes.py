"""Why a server could not be reached: its certificate, its host name, its port or the proxy."""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.exceptions import InvalidProxyURL, InvalidSchema
from urllib3.exceptions import (
    HTTPError,
    LocationParseError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ProxySchemeUnknown,
)
from urllib3.exceptions import SSLError as TLSError
from urllib3.util.ssl_match_hostname import CertificateError

from oauth_connect.errors import printable_line

UNREACHABLE = "unreachable"
CERTIFICATE_INVALID = "certificate_invalid"
HOST_NOT_FOUND = "host_not_found"
CONNECTION_REFUSED = "connection_refused"
PROXY_FAILED = "proxy_failed"
# In each case nothing was sent.
CAUSES = frozenset({UNREACHABLE, CERTIFICATE_INVALID, HOST_NOT_FOUND, CONNECTION_REFUSED, PROXY_FAILED})
_LABEL = "label empty or too long"  # urllib3 says this of a host
_STATUS = re.compile(r"Tunnel connection failed: (\d{3})\b")


class CertificatesMissing(requests.RequestException):
    """The file or folder of trusted certificates (REQUESTS_CA_BUNDLE) does not exist. Nothing was sent."""


class HandshakeFailed(ssl.SSLError):
    """The TLS handshake failed, so nothing was sent. Other errors of TLS may come after the request."""


def reason_of(error: requests.RequestException | HTTPError) -> object:
    """Return the error of urllib3 that requests wraps."""
    if isinstance(error, HTTPError):
        return error
    reason: Any = error.args[0] if error.args else None
    return reason.reason if isinstance(reason, MaxRetryError) else reason


def refuses_certificate(reason: object) -> bool:
    """Return whether the client refused the server's certificate. Nothing was sent in that case."""
    return isinstance(reason, TLSError) and isinstance(
        reason.args[0], ssl.SSLCertVerificationError | CertificateError
    )


def before_request(reason: object) -> bool:
    """Return whether an error of urllib3 shows that TLS failed before the request was sent."""
    return refuses_certificate(reason) or (
        isinstance(reason, TLSError) and isinstance(reason.args[0], HandshakeFailed)
    )


def cause_of(error: requests.RequestException | HTTPError) -> str:
    """Return the code of the cause for which a request was not sent."""
    reason = reason_of(error)
    if isinstance(error, CertificatesMissing) or refuses_certificate(reason):
        return CERTIFICATE_INVALID
    # requests raises InvalidSchema for a SOCKS proxy without the package for it.
    if isinstance(reason, ProxyError | ProxySchemeUnknown) or isinstance(error, InvalidProxyURL):
        return PROXY_FAILED
    if isinstance(error, InvalidSchema) and "SOCKS" in str(error):
        return PROXY_FAILED
    if isinstance(reason, NameResolutionError):
        return HOST_NOT_FOUND
    if isinstance(reason, LocationParseError):
        # The server's URL was read before. What is left of it is a name that no name server can be asked for.
        return HOST_NOT_FOUND if _LABEL in str(reason) else PROXY_FAILED
    if isinstance(reason, NewConnectionError) and isinstance(reason.__cause__, ConnectionRefusedError):
        return CONNECTION_REFUSED
    return UNREACHABLE


def detail_of(error: requests.RequestException | HTTPError) -> str:
    """Return what the TLS library or the proxy's status says about the cause; "" if that is nothing."""
    reason = reason_of(error)
    if isinstance(reason, TLSError) and isinstance(reason.args[0], HandshakeFailed):
        return "the TLS handshake failed; the port may speak plain http"
    if refuses_certificate(reason):
        refused = reason.args[0]  # type: ignore[attr-defined]
        return printable_line(getattr(refused, "verify_message", "") or "", 120).rstrip(".")
    if isinstance(error, CertificatesMissing):
        return "the file of trusted certificates does not exist"
    found = _STATUS.search(str(reason)) if isinstance(reason, ProxyError) else None
    return f"HTTP {found[1]}" if found else ""


def explained(cause: str, url: str, detail: str = "") -> str:
    """Return sentences that name the cause and the correction. A URL's user and password are left out."""
    host = host_of(url)
    said = f" ({detail})" if detail else ""
    return {
        CERTIFICATE_INVALID: f"The certificate of {host} cannot be verified{said}. Nothing was sent. If a CA "
        "of your own issued it, set the environment variable REQUESTS_CA_BUNDLE to the CA's file. Otherwise "
        "compare the host name in the settings with the certificate.",
        HOST_NOT_FOUND: f"The host name {host} cannot be resolved. Nothing was sent. Correct the URL in the "
        "settings, or this machine's DNS.",
        CONNECTION_REFUSED: f"{host} refused the connection. Nothing was sent. Compare host and port in the "
        "settings with the provider's documentation, or try again later.",
        PROXY_FAILED: f"The proxy on the way to {host} failed{said}. Nothing was sent to {host}. Check the "
        "environment variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY.",
    }.get(cause, f"{host} does not respond{said}. Nothing was sent. Try again later.")


def host_of(url: str) -> str:
    """Return host and port of a URL as one line; empty if it has none."""
    try:
        return printable_line(urlsplit(url).netloc.rpartition("@")[2], 120)
    except ValueError:
        return ""
