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
from oauth_connect.management.doctor.site import Finding
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import ENDPOINTS, Provider
from oauth_connect.protocol.templates import has_brace

MAX_PARALLEL = 8
NOT_FOUND = (404, 410)
NOT_FOR_GET = 501


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
    named = {name: getattr(provider, name) for name in ENDPOINTS}
    named["refresh.endpoint"] = provider.refresh.endpoint
    return {name: url for name, url in named.items() if url and not has_brace(url)}


def _probe(provider: Provider, name: str, url: str, timeout: float) -> Finding:
    subject = f"{provider.slug}.{name}"
    try:
        with AuthorizationServer(provider, timeout=timeout) as server:
            status = server.probe(url)
    except ProviderUnavailable as error:
        hint = "Check the host name, network, proxy and certificate."
        return Finding(subject, "error", f"no response ({error.code}).", hint)
    except CallError:
        hint = "Compare it with the provider's documentation."
        return Finding(subject, "error", "no request can be sent to it.", hint)
    return _finding(subject, status)


def _finding(subject: str, status: int) -> Finding:
    if status in NOT_FOUND:
        hint = "Some servers send this for anything but POST. Compare it with the provider's documentation."
        return Finding(subject, "warning", f"HTTP {status}.", hint)
    if status >= 500 and status != NOT_FOR_GET:
        hint = "The provider has a problem, or this URL is not its endpoint."
        return Finding(subject, "error", f"HTTP {status}.", hint)
    return Finding(subject, "ok", f"responds, HTTP {status}")
