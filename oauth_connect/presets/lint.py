"""The rules for a preset that is worth trusting, beyond those without which it cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oauth_connect.errors import InvalidProvider
from oauth_connect.presets import ABOUT, compose
from oauth_connect.presets.about import About
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable

CLIENT = {"client_id": "client", "client_secret": "secret"}
# Values that an account's owner can change.
MUTABLE = {"email", "preferred_username", "login", "username", "name", "upn", "mail"}


def problems(name: str, whole: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a preset, each with the dotted path of the field."""
    data = {key: value for key, value in whole.items() if key != ABOUT}
    for field in sorted({*CLIENT, "slug"} & set(data)):
        yield f"{name}.{field}: a preset holds no client; write it into the settings"
    try:
        provider = Provider.from_mapping(name, {**data, **CLIENT})
        for environment in provider.environments:
            Provider.from_mapping(name, compose(data, {**CLIENT, "environment": environment}))
        about = _about(name, whole)
    except InvalidProvider as error:
        yield str(error)
        return
    yield from (f"{name}.{problem}" for problem in _problems_of(provider, data, about))


def _about(name: str, whole: Mapping[str, Any]) -> About:
    facts = whole.get(ABOUT)
    if not isinstance(facts, Mapping):
        raise InvalidProvider(f"{name}.about: missing; say where the data comes from (sources, read)")
    return About.from_mapping(name, facts)


def _problems_of(provider: Provider, data: Mapping[str, Any], about: About) -> Iterator[str]:
    yield from _missing(provider)
    for path, url in _urls(data):
        if not url.startswith("https://"):
            yield f"{path}: must be an https URL"
    for path in provider.identity.id:
        if path.rpartition(".")[2] in MUTABLE:
            yield f"identity.id: {path!r} can be changed by the account's owner"
    for variable, rules in provider.variables.items():
        yield from _problems_of_variable(variable, rules)
    for path in (*about.unverified, *about.fields):
        if not _has(data, path):
            yield f"about: {path!r} is not a field of this preset"


def _missing(provider: Provider) -> Iterator[str]:
    if not provider.name:
        yield "name: missing; it is what users see"
    if not provider.documentation.startswith("https://"):
        yield "documentation: missing; link the provider's own page"
    if not (provider.api_base_url or provider.api_hosts):
        yield "api_base_url: missing; without it and api_hosts no token can be sent"


def _problems_of_variable(name: str, rules: Variable) -> Iterator[str]:
    if rules.source == "user":
        if not rules.label:
            yield f"variables.{name}.label: missing; the form for users shows it"
        if not (rules.example or rules.choices):
            yield f"variables.{name}.example: missing; the form for users shows it"
    elif not rules.is_late and not (rules.example or rules.choices or rules.default):
        yield f"variables.{name}.example: missing; say what a site writes into its settings"


def _urls(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "pattern":
                yield from _urls(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str) and "://" in value:
        yield path, value


def _has(data: Mapping[str, Any], path: str) -> bool:
    """Return whether a preset has a value at a dotted path. A key may contain dots."""
    if path in data:
        return True
    return any(
        isinstance(value, Mapping) and path.startswith(f"{key}.") and _has(value, path[len(key) + 1 :])
        for key, value in data.items()
    )
