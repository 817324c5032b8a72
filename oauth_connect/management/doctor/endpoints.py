"""Do the providers' endpoints answer? A bare GET each: no parameters, no credentials, no token request.

Any complete answer over verified TLS shows that something is there. What a GET can tell of an
endpoint for POST is little: see docs/commands.md.
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

MAX_PARALLEL = 8
NOT_THERE = (404, 410)
NOT_FOR_GET = 501


def endpoints(providers: Iterable[Provider]) -> Iterator[Finding]:
    """Ask each endpoint of each provider that is turned on."""
    timeout = conf.http_timeout
    asked: list[tuple[Provider, str, str]] = []
    for provider in providers:
        if not provider.enabled:
            continue
        try:
            resolved = _complete(provider).resolve({})
        except (CallError, ImproperlyConfigured) as error:
            yield Finding(f"Endpoints of {provider.slug}", "error", "not discovered.", str(error))
            continue
        except InvalidProvider:
            names = ", ".join(provider.variables)
            yield Finding(f"Endpoints of {provider.slug}", "ok", f"not asked: they differ by {names}")
            continue
        asked += [(resolved, name, url) for name, url in _urls(resolved).items()]
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        yield from pool.map(lambda one: _asked(one[0], one[1], one[2], timeout), asked)


def _complete(provider: Provider) -> Provider:
    """Return the provider with its endpoints, asked of its issuer where the settings leave them to it."""
    return conf.provider(provider.slug) if provider.needs_discovery else provider


def _urls(provider: Provider) -> dict[str, str]:
    named = {name: getattr(provider, name) for name in ENDPOINTS}
    named["refresh.endpoint"] = provider.refresh.endpoint
    return {name: url for name, url in named.items() if url}


def _asked(provider: Provider, name: str, url: str, timeout: float) -> Finding:
    subject = f"{provider.slug}.{name}"
    try:
        with AuthorizationServer(provider, timeout=timeout) as server:
            status = server.probe(url)
    except ProviderUnavailable as error:
        hint = "Look at name, network, proxy and certificate."
        return Finding(subject, "error", f"no answer ({error.code}).", hint)
    except CallError:
        return Finding(subject, "error", "it cannot be asked.", "Compare it with the provider's page.")
    return _judged(subject, status)


def _judged(subject: str, status: int) -> Finding:
    if status in NOT_THERE:
        hint = "Some servers say so to anything but a POST; compare it with the provider's page."
        return Finding(subject, "warning", f"HTTP {status}.", hint)
    if status >= 500 and status != NOT_FOR_GET:
        return Finding(subject, "error", f"HTTP {status}.", "The provider is ill, or this is not it.")
    return Finding(subject, "ok", f"answers, HTTP {status}")
