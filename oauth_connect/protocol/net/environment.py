"""The proxies that the environment names, without reading all of its variables for each request.

requests reads them for each request, which is a quarter of the cost of a call. The result depends on few
variables. It is kept as long as these have the same values.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import Any

import requests
from requests.sessions import merge_setting
from requests.utils import get_environ_proxies

MAX_ORIGINS = 256
_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
# REQUEST_METHOD: in a CGI script, HTTP_PROXY is a header of the visitor's request.
_VARIABLES = (*_NAMES, *map(str.upper, _NAMES), "REQUEST_METHOD")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# There the system's settings count too.
_ASKS_THE_SYSTEM = sys.platform in ("darwin", "win32")


def proxies_for(url: str) -> dict[str, str]:
    """Return the proxies for a URL, by scheme, as requests finds them in the environment."""
    if _ASKS_THE_SYSTEM:
        return get_environ_proxies(url)
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    return dict(_found(f"{scheme}://{authority}/", _values(_VARIABLES)))


@lru_cache(maxsize=MAX_ORIGINS)
def _found(url: str, values: tuple[Any, ...]) -> dict[str, str]:
    """``values``: of the variables on which the result depends; another value is another entry."""
    return get_environ_proxies(url)


def _values(names: tuple[str, ...]) -> tuple[Any, ...]:
    """Return what changes with the values of these variables.

    ``os.environ`` encodes each name and decodes each value, ten times the cost of looking them up in the
    dictionary behind it. A test may have put another mapping in its place.
    """
    environ: Any = os.environ
    encoded = getattr(environ, "_data", None)
    if encoded is None:
        return tuple(map(environ.get, names))
    return tuple(map(encoded.get, _encoded(names)))


@lru_cache
def _encoded(names: tuple[str, ...]) -> tuple[Any, ...]:
    encode: Any = os.environ.encodekey
    return tuple(map(encode, names))


def ca_bundle() -> str | None:
    """Return the CA bundle that the environment names, as requests and cURL find it."""
    if not any(_values(_BUNDLES)):
        return None
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")


class KeptEnvironment(requests.Session):
    """A mixin for sessions. They read the environment as this module does."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Merge the settings of the request, the session and the environment, with requests' priorities."""
        if self.trust_env and "no_proxy" not in (proxies or ()):
            proxies = {**proxies_for(url), **(proxies or {})}
            if verify is True or verify is None:
                verify = ca_bundle() or verify
        elif self.trust_env:
            return super().merge_environment_settings(url, proxies, stream, verify, cert)
        merge: Any = merge_setting
        return {
            "proxies": merge(proxies, self.proxies) if proxies or self.proxies else {},
            "stream": merge(stream, self.stream),
            "verify": merge(verify, self.verify),
            "cert": merge(cert, self.cert),
        }
