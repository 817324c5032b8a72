"""The settings of a provider, to paste. Fields that may hold a secret are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from oauth_connect import presets
from oauth_connect.management.providers.summary import about_of, entry_of, takes_scopes, variables
from oauth_connect.presets.about import About
from oauth_connect.protocol.provider import ENDPOINTS, Provider
from oauth_connect.protocol.quirks import Variable

LOCATIONS = ("issuer", *ENDPOINTS, "api_base_url")


def pasted(slug: str, provider: Provider) -> Iterator[str]:
    """Yield the lines of a settings entry to paste. Fields that may hold a secret are left out."""
    entry, about = entry_of(slug), about_of(slug)
    preset = entry.get("preset", slug)
    is_preset = isinstance(preset, str | Path) and presets.read(preset) is not None
    if about and about.client_secret:
        module, name, _ = _call(about.client_secret)
        yield f"from {module} import {name}"
        yield ""
    yield 'OAUTH_CONNECT["PROVIDERS"] = {'
    yield f"    {quoted(slug)}: {{"
    if is_preset and preset != slug:
        yield f'        "preset": {quoted(str(preset))},'
    yield from _client(slug, provider, about)
    if not is_preset:
        for endpoint in LOCATIONS:
            if value := getattr(provider, endpoint):
                yield f'        "{endpoint}": {quoted(value)},'
    yield from _lists(provider, about)
    if is_preset:
        yield from _missing_variables(provider)
    if provider.variables and not is_preset:
        yield f'        "variables": {{{", ".join(map(_rules, provider.variables.items()))}}},'
    yield "    },"
    yield "}"


def _client(slug: str, provider: Provider, about: About | None) -> Iterator[str]:
    if provider.hooks.register_client:
        return
    yield f'        "client_id": {quoted(provider.client_id)},'
    if about and about.client_secret:
        _, name, arguments = _call(about.client_secret)
        yield f'        "client_secret": {name}('
        yield f"            {arguments}"
        yield "        ),"
    elif provider.client_authentication != "none":
        yield f'        "client_secret": os.environ["{_variable(slug)}_CLIENT_SECRET"],'


def _call(text: str) -> tuple[str, str, str]:
    """Return the module, the class and the arguments of a call such as ``site.secrets.Made()``."""
    path, _, arguments = text.removesuffix(")").partition("(")
    module, _, name = path.rpartition(".")
    return module, name, arguments


def _lists(provider: Provider, about: About | None) -> Iterator[str]:
    scopes = provider.scopes or (about and about.least_scopes) or ()
    if takes_scopes(provider):
        yield f'        "scopes": [{", ".join(map(quoted, scopes))}],'
    if provider.grant_types:
        yield f'        "grant_types": [{", ".join(map(quoted, provider.grant_types))}],'


def _missing_variables(provider: Provider) -> Iterator[str]:
    """Yield the variables without a value. Users enter some of them. The settings must have the others."""
    missing = variables(provider)
    required = [name for name in missing if provider.variables[name].source == "config"]
    entered = [name for name in missing if name not in required]
    if entered:
        yield f"        # Users enter {' and '.join(entered)} when connecting. One value for all of them:"
        yield f"        # {_values(missing)}"
    if required:
        yield f"        {_values(required)}"


def _values(names: Iterable[str]) -> str:
    pairs = ", ".join(f'{quoted(name)}: "..."' for name in names)
    return f'"variables": {{{pairs}}},'


def _rules(variable: tuple[str, Variable]) -> str:
    """Return a variable with the fields that are not as usual."""
    name, rules = variable
    usual = {one.name: one.default for one in fields(rules)}
    stated = {key: getattr(rules, key) for key in usual if getattr(rules, key) != usual[key]}
    pairs = ", ".join(f"{quoted(key)}: {_literal(value)}" for key, value in stated.items())
    return f"{quoted(name)}: {{{pairs}}}"


def _literal(value: str | bool | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(quoted, value))}]"
    return quoted(value) if isinstance(value, str) else str(value)


def _variable(slug: str) -> str:
    return slug.upper().replace("-", "_")


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
