"""One provider in words: what it does, what to know, and how that is known."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from oauth_connect.management.providers.settings_entry import LOCATIONS
from oauth_connect.management.providers.summary import Summary
from oauth_connect.presets.about import About, Change
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable

WIDTH = 100
EVIDENCE = {
    "vendor": "the provider's own pages",
    "library": "the code of a library",
    "secondary": "descriptions by others",
}
CONFIDENCE = {"high": "several sources agree", "medium": "few sources", "low": "not verified"}
PKCE = {
    "required": "required",
    "supported": "supported",
    "tolerated": "not documented, does no harm",
    "ignored": "ignored",
    "unsupported": "not supported",
    "unknown": "not known",
}
EFFECTS = {
    "token": "ends this token",
    "grant": "ends the user's grant",
    "account": "ends every connection of this account",
}
# RFC 6749 sections 4.1.2.1 and 5.2, and RFC 8628 section 3.5. A provider's own errors are treated as these.
MEANINGS = {
    "invalid_grant": "The code or the refresh token is wrong, spent or has ended.",
    "invalid_client": "The client id or the client secret is wrong.",
    "slow_down": "The client sent too many requests.",
    "server_error": "The provider has a problem.",
    "temporarily_unavailable": "The provider has a problem. Try again later.",
}
UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def described(
    provider: Provider, summary: Summary, about: About | None, variables: Mapping[str, Variable]
) -> Iterator[str]:
    """Yield the lines about one provider. ``variables``: also those that have a value already."""
    yield f"{provider.label} ({provider.slug})"
    fields = {**_fields(provider, summary), **(_facts(about) if about else {})}
    shown = {name: value for name, value in fields.items() if value}
    width = max(map(len, shown))
    for name, value in shown.items():
        mark = " (not verified)" if about and about.is_unverified(name) else ""
        yield f"  {name.ljust(width)}  {value}{mark}"
    yield from _section("Variables", map(variable_line, variables.items()))
    if about:
        yield from _sections(provider, about)


def _fields(provider: Provider, summary: Summary) -> dict[str, str]:
    return {
        "kind": summary.kind,
        "category": summary.category,
        "documentation": provider.documentation,
        "flows": ", ".join(summary.flows),
        "PKCE": summary.pkce,
        "PKCE is off because": provider.authorize.without_pkce_because,
        "refresh": summary.refresh,
        "rotation": summary.rotation,
        "refresh token": "; ".join(lifetimes(provider)),
        "client authentication": provider.client_authentication,
        **{name: getattr(provider, name) for name in LOCATIONS},
        "API hosts": ", ".join(provider.api_hosts),
        "revocation": revocation(provider),
        "environments": ", ".join(provider.environments),
        "scopes": " ".join(provider.scopes),
        "added for a refresh token": " ".join(provider.authorize.offline_scopes),
        "needs": ", ".join(summary.needs),
    }


def _facts(about: About) -> dict[str, str]:
    return {
        "access token": f"about {duration(about.access_token_seconds)}" if about.access_token_seconds else "",
        "least scopes": "" if about.least_scopes is None else " ".join(about.least_scopes) or "none",
        "PKCE at the provider": PKCE[about.pkce],
        "known from": f"{EVIDENCE[about.known_by]}, read {about.read} ({CONFIDENCE[about.confidence]})",
        "not verified": ", ".join(about.unverified),
    }


def _sections(provider: Provider, about: About) -> Iterator[str]:
    yield from _section("What to know", about.caveats)
    yield from _section("Announced changes", map(change_line, about.changes))
    yield from _section("Scopes", _pairs(about.scope_labels))
    tasks = {task: " ".join(scopes) for task, scopes in about.scopes_for.items()}
    yield from _section("Scopes for common tasks", _pairs(tasks))
    yield from _section("Its errors", map(_error_line, errors(provider, about)))
    if about.console:
        steps = (f"{number}. {step}" for number, step in enumerate(about.console.steps, 1))
        yield from _section(
            f"Register a client: {about.console.page} (read {about.console.read})", steps, always=True
        )


def _error_line(error: tuple[str, str, str, str]) -> str:
    code, words, rfc, meaning = error
    name = f'{code} (description: "{words}")' if words else code
    return f"{name}: {meaning or rfc}"


def _section(title: str, lines: Iterator[str] | tuple[str, ...], *, always: bool = False) -> Iterator[str]:
    found = list(lines)
    if found or always:
        yield f"\n{title}{':' if found else ''}"
    for line in found:
        yield from textwrap.wrap(
            line,
            WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _pairs(table: Mapping[str, str]) -> Iterator[str]:
    return (f"{name}: {value}" for name, value in table.items())


def change_line(change: Change) -> str:
    return f"{change.on}: {change.what}"


def variable_line(item: tuple[str, Variable]) -> str:
    """Return a variable with its origin and an example."""
    name, rules = item
    origin = {
        "config": "from the settings",
        "user": "entered by the user",
        "callback": "from the callback",
        "token_response": "from the token response",
        "identity": "from the document that names the account",
        "accounts": "from the list of accounts",
    }[rules.source]
    values = [
        f"one of {', '.join(rules.choices)}" if rules.choices else "",
        f"default {rules.default}" if rules.default else "",
        f"such as {rules.example}" if rules.example and rules.example != rules.default else "",
    ]
    return f"{name}: {', '.join([origin, *filter(None, values)])}"


def lifetimes(provider: Provider) -> Iterator[str]:
    """Yield what ends a refresh token by time."""
    rules = provider.refresh
    if rules.lifetime_seconds:
        yield f"{duration(rules.lifetime_seconds)} unused"
    if rules.absolute_seconds:
        yield f"{duration(rules.absolute_seconds)} in total"


def revocation(provider: Provider) -> str:
    if provider.revocation.style == "none" or not provider.revocation_endpoint:
        return "none"
    return EFFECTS[provider.revocation.effect]


def errors(provider: Provider, about: About) -> Iterator[tuple[str, str, str, str]]:
    """Yield the provider's own error codes, the words in the description, the RFC's code, and the meaning.

    A code that is mapped to nothing is no error, and is left out.
    """
    treated_as = {**provider.callback.errors, **provider.token_response.errors}
    for code in dict.fromkeys([*treated_as, *about.errors]):
        rfc = treated_as.get(code, "")
        if rfc or code in about.errors:
            name, _, words = code.partition(": ")
            yield name, words, rfc, about.errors.get(code, MEANINGS.get(rfc, ""))


def duration(seconds: int) -> str:
    """Return a duration in its largest unit that leaves no rest."""
    for size, unit in UNITS:
        if seconds >= size and seconds % size == 0:
            number = seconds // size
            return f"{number} {unit if number > 1 else unit.removesuffix('s')}"
    return f"{seconds} seconds"
