"""The TLS settings of connections, kept for the whole process.

Making an SSLContext loads the CA bundle, which takes tens of milliseconds. It is made once for each bundle
and client certificate, and again if one of these files changes.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

import requests
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from urllib3.connection import ProxyConfig
from urllib3.util.ssl_ import create_urllib3_context

from oauth_connect.protocol.net.bounded import Bounded

MAX_CONTEXTS = 20
_FILES = ("a suitable TLS CA certificate bundle", "the TLS certificate file", "the TLS key file")
_contexts: Bounded[ssl.SSLContext] = Bounded(MAX_CONTEXTS)


class FileMissing(OSError):
    """A CA bundle or a client certificate is not there."""


class KeptContexts(HTTPAdapter):
    """A mixin for adapters. Their pools have contexts that the process keeps."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """Return what makes a pool: the host, and for https an SSLContext. Raises FileMissing."""
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] != "https":
            return host, {}
        bundle, certificate, key = files_of(verify, cert)
        context = _kept_context(bundle, certificate, key)
        # A proxy that is reached by https itself: the same bundle, and never the client certificate.
        for_proxy = _kept_context(bundle, None, None) if certificate or key else context
        return host, {
            "cert_reqs": tls["cert_reqs"],
            "ssl_context": context,
            "_proxy_config": ProxyConfig(for_proxy, False, None, None),
        }

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing. The pool has its SSLContext. Setting the files would load them for each connection."""


def forget_all() -> None:
    """Begin without contexts, and with a lock that nobody holds."""
    global _contexts
    _contexts = Bounded(MAX_CONTEXTS)


def _kept_context(*files: str | None) -> ssl.SSLContext:
    return _contexts.get_or_make(versions(files), lambda: _context(*files))


def files_of(verify: Any, cert: Any) -> tuple[str | None, str | None, str | None]:
    """Return the paths of the CA bundle, of the client's certificate and of its key."""
    given = DEFAULT_CA_BUNDLE_PATH if verify is True or not verify else str(verify)
    bundle = None if verify is False else given
    certificate, key = cert if isinstance(cert, tuple | list) else (cert, None)
    return bundle, certificate or None, key or None


def versions(files: tuple[str | None, ...]) -> tuple[Any, ...]:
    """Return what changes when a file is replaced under its name. Raises FileMissing."""
    return tuple(map(_version, files, _FILES))


def _version(path: str | None, name: str) -> tuple[Any, ...]:
    if path is None:
        return ()
    try:
        found = os.stat(path)
    except OSError:
        raise FileMissing(f"Could not find {name}, invalid path: {path}") from None
    return path, found.st_mtime_ns, found.st_size, found.st_ino


def _context(bundle: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    verify_mode = ssl.CERT_NONE if bundle is None else ssl.CERT_REQUIRED
    context = create_urllib3_context(cert_reqs=verify_mode)
    if bundle is not None:
        by_folder = os.path.isdir(bundle)
        context.load_verify_locations(**{"capath" if by_folder else "cafile": bundle})
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
