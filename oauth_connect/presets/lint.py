"""The rules for a preset that is worth trusting, beyond those without which it cannot be loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from oauth_connect.errors import InvalidProvider
from oauth_connect.presets import ABOUT, compose
from oauth_connect.presets.about import About, day_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable

CLIENT = {"client_id": "client", "client_secret": "secret"}
# Values that an account's owner can change.
MUTABLE = {"email", "preferred_username", "login", "username", "name", "upn", "mail"}
# A value with one of these leads to another host or path than its URL shows.
SEPARATORS = "/@?#\\"
VERSION = re.compile(r"\d+\.\d+|\b[0-9a-f]{7,40}\b")  # a release or a commit


def problems(name: str, whole: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a preset, each with the dotted path of the field."""
    data = {key: value for key, value in whole.items() if key != ABOUT}
    for field in sorted({*CLIENT, "slug"} & set(data)):
        yield f"{name}.{field}: a preset holds no client; write it into the settings"
    try:
        provider = Provider.from_mapping(name, {**data, **CLIENT})
        for environment in provider.environments:
            _check_environment(name, data, environment)
        about = _about(name, whole)
    except InvalidProvider as error:
        yield str(error)
        return
    yield from (f"{name}.{problem}" for problem in _problems_of(provider, data, about))


def _check_environment(name: str, data: Mapping[str, Any], environment: str) -> None:
    try:
        Provider.from_mapping(name, compose(data, {**CLIENT, "environment": environment}))
    except InvalidProvider as error:
        inner = str(error).removeprefix(f"{name}.")
        raise InvalidProvider(f"{name}.environments.{environment}.{inner}") from None


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
            yield f"identity.id: {path!r} can be changed by the account's owner; use an id that stays"
    for variable, rules in provider.variables.items():
        yield from _problems_of_variable(variable, rules)
    yield from _unsafe_patterns(provider, data)
    for path in (*about.unverified, *about.fields):
        if not _has(data, path):
            yield f"about: {path!r} is not a field of this preset"
    yield from _problems_of_evidence(about)
    yield from _unlabelled(provider, about)


def _unsafe_patterns(provider: Provider, data: Mapping[str, Any]) -> Iterator[str]:
    urls = "".join(url for _, url in _urls(data))
    for name, rules in provider.variables.items():
        if f"{{{name}}}" in urls and (accepted := _separator(rules)):
            yield f"variables.{name}.pattern: accepts {accepted!r}, which leads to another host or path"


def _separator(rules: Variable) -> str:
    """Return a value with a separator of URLs that the variable accepts, or "". A path may have slashes."""
    usual = rules.example or rules.default or "a"
    separators = SEPARATORS.replace("/", "") if usual.startswith("/") else SEPARATORS
    tried = (text for sign in separators for text in (f"{usual}{sign}a", f"a{sign}{usual}", f"a{sign}b"))
    values = (rules.value_of(text) for text in tried)
    return next((value for value in values if value and set(value) & set(separators)), "")


def _problems_of_evidence(about: About) -> Iterator[str]:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    if day_of(about.read) > tomorrow:
        yield f"about.read: {about.read} is in the future; say when the sources were read"
    is_library = "library" in {about.known_by, *about.fields.values()}
    if is_library and not any(VERSION.search(source) for source in about.sources if "://" not in source):
        yield "about.sources: no library has a version; name it, such as 'django-allauth 65.21.1'"


def _unlabelled(provider: Provider, about: About) -> Iterator[str]:
    tasks = (scope for scopes in about.scopes_for.values() for scope in scopes)
    used = {*provider.scopes, *(about.least_scopes or ()), *tasks}
    if about.scope_labels and (missing := sorted(used - set(about.scope_labels))):
        yield f"about.scope_labels: missing for {', '.join(missing)}; say what each of them allows"


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
