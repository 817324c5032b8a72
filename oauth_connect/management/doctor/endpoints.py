"""Checks that the providers' endpoints respond. Each gets a GET request without parameters or credentials.

Any complete response over verified TLS shows that a server is there. A GET request shows little about an
endpoint for POST: see docs/commands.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.errors import CallError, InvalidProvider, ProviderUnavailable
from oauth_connect.management.doctor.finding import Finding
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.net.causes import CAUSES
from oauth_connect.protocol.provider import ENDPOINTS, Provider
from oauth_connect.protocol.quirks import DEVICE_CODE, GrantType
from oauth_connect.protocol.templates import has_brace

MAX_PARALLEL = 8
NOT_FOUND = (404, 410)
NOT_FOR_GET = 501
FAILS_ON_GET = 500
GRANT_OF: dict[str, GrantType] = {
    "authorization_endpoint": "authorization_code",
    "device_authorization_endpoint": DEVICE_CODE,
}


def endpoints(providers: Iterable[Provider]) -> Iterator[Finding]:
    """Yield a finding for each endpoint of each enabled provider."""
    timeout = conf.http_timeout
    targets: list[tuple[Provider, str, str]] = []
    for provider in providers:
        if not provider.enabled:
            continue
        try:
            resolved = _complete(provider).resolve({})
        except (CallError, ImproperlyConfigured) as error:
            yield Finding(f"Endpoints of {provider.slug}", "error", "discovery failed.", str(error))
            continue
        except InvalidProvider:
            names = ", ".join(provider.variables)
            yield Finding(f"Endpoints of {provider.slug}", "ok", f"not checked: they differ by {names}")
            continue
        targets += [(resolved, name, url) for name, url in _urls(resolved).items()]
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        yield from pool.map(lambda target: _probe(target[0], target[1], target[2], timeout), targets)


def _complete(provider: Provider) -> Provider:
    """Return the provider with its endpoints. Discover those that the settings leave out."""
    return conf.provider(provider.slug) if provider.needs_discovery else provider


def _urls(provider: Provider) -> dict[str, str]:
    """Return the endpoints, without those that differ by a variable of a provider's response."""
    named = {name: getattr(provider, name) for name in ENDPOINTS if _is_used(provider, name)}
    named["refresh.endpoint"] = provider.refresh.endpoint
    named["refresh.first_endpoint"] = provider.refresh.first_endpoint
    return {name: url for name, url in named.items() if url and not has_brace(url)}


def _is_used(provider: Provider, name: str) -> bool:
    grant = GRANT_OF.get(name)
    return grant is None or provider.allows(grant)


def _probe(provider: Provider, name: str, url: str, timeout: float) -> Finding:
    subject = f"{provider.slug}.{name}"
    try:
        with AuthorizationServer(provider, timeout=timeout) as server:
            status = server.probe(url)
    except ProviderUnavailable as error:
        hint = str(error) if error.code in CAUSES else "Check the network and the proxy."
        return Finding(subject, "error", f"no response ({error.code}).", hint)
    except CallError:
        hint = "Compare it with the provider's documentation."
        return Finding(subject, "error", "no request can be sent to it.", hint)
    return _finding(subject, status)


def _finding(subject: str, status: int) -> Finding:
    if status in NOT_FOUND:
        hint = "Some servers send this for anything but POST. Compare it with the provider's documentation."
        return Finding(subject, "warning", f"HTTP {status}.", hint)
    if status == FAILS_ON_GET:
        hint = (
            "Some servers send this for a GET request. If connecting fails too, the provider has a problem."
        )
        return Finding(subject, "warning", f"HTTP {status}.", hint)
    if status >= 500 and status != NOT_FOR_GET:
        hint = "The provider has a problem, or this URL is not its endpoint."
        return Finding(subject, "error", f"HTTP {status}.", hint)
    return Finding(subject, "ok", f"responds, HTTP {status}")
