"""What the documents of a provider say of an account: its id, its label, and the values of variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from oauth_connect.errors import InvalidProvider, printable_line
from oauth_connect.protocol.paths import pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.testing.server.messages import Account
from oauth_connect.testing.server.shapes.documents import document_of, with_lists
from oauth_connect.testing.server.shapes.patterns import text_matching

DOCUMENTS = ("callback", "token_response")  # they may have variables also where they do not name the account


def value_for(provider: Provider, name: str, seed: str = "") -> str:
    """Return a value that fits a variable, as the client stores it.

    Without a ``seed``: the default, the example or the first choice, else one made from the pattern. With a
    seed: the seed itself if it fits, else one made from it. Raises InvalidProvider if no value was found.
    """
    return provider.value_of(name, written_for(provider, name, seed))


def written_for(provider: Provider, name: str, seed: str = "") -> str:
    """Return the same as a document may write it, for example as a URL. Raises as ``value_for``."""
    variable = provider.variables[name]
    given = (variable.default, variable.example, *variable.choices)
    made = text_matching(variable.pattern, seed or name)
    candidates = (seed, made, *given) if seed else (*given, made)
    for candidate in candidates:
        if candidate and variable.value_of(candidate) is not None:
            return candidate
    raise InvalidProvider(
        f"{provider.slug}.variables.{name}: the fake provider found no value for the pattern. Give an example"
    )


def fields_of(provider: Provider, source: str, account: Account) -> dict[str, Any]:
    """Return the values that a document has of an account, by their dotted paths.

    ``source``: as in ``identity.source``.
    """
    names_account = provider.identity_source == source
    ids = provider.identity.id[:1] if names_account else ()
    parts = [part for path in ids for part in path.split("+")]
    fields: dict[str, Any] = {}
    for name, path in _variables_in(provider, source):
        # A part of the id must differ from account to account. Another value may be readable.
        fields[path] = written_for(provider, name, account.id if path in parts else "")
    for path in (*parts, *(provider.identity.label[:1] if names_account else ())):
        fields.setdefault(path, account.id if path in parts else _label(path, account))
    return fields


def _label(path: str, account: Account) -> str:
    return account.email if "mail" in path.lower() else account.name


def _variables_in(provider: Provider, source: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that a document has, each with its path."""
    documents = [source] if source in DOCUMENTS else []
    if source == provider.identity_source:
        documents.append("identity")
    for document in documents:
        for name, variable in provider.asked_of(document).items():
            yield name, variable.field or name


def sites_of(provider: Provider, account: Account, count: int) -> list[dict[str, Any]]:
    """Return what a token can access, as entries of the list of ``accounts.endpoint``."""
    rules = provider.accounts
    return [_site(provider, account, number, rules.preferred) for number in range(1, count + 1)]


def _site(provider: Provider, account: Account, number: int, preferred: str) -> dict[str, Any]:
    rules = provider.accounts
    seed = account.id if number == 1 else f"{account.id}-{number}"
    name = f"{account.name}'s site" if number == 1 else f"{account.name}'s site {number}"
    fields: dict[str, Any] = {rules.id: _value(provider, rules.variable, seed)}
    for variable, path in rules.variables.items():
        fields.setdefault(path, _value(provider, variable, ""))
    if preferred:
        fields.setdefault(preferred, number == 1)
    for path in rules.match:
        fields.setdefault(path, name)
    site: dict[str, Any] = with_lists(document_of(fields))
    return site


def _value(provider: Provider, variable: str, seed: str) -> str:
    return written_for(provider, variable, seed) if variable in provider.variables else seed


def account_of(provider: Provider, account: Account) -> tuple[str, str]:
    """Return the id and the label of an account as the client stores them, or two empty strings.

    The entry may join several values to one id.
    """
    source = provider.identity_source
    if source == "none":
        return "", ""
    fields = fields_of(provider, source, account)
    document = fields if source == "callback" else with_lists(document_of(fields))
    account_id = pick(document, provider.identity.id)
    return account_id, printable_line(pick(document, provider.identity.label)) or account_id


def variables_of(provider: Provider, account: Account) -> dict[str, str]:
    """Return the values of the variables that the provider's responses name for an account."""
    found: dict[str, str] = {}
    for source in (*DOCUMENTS, provider.identity_source):
        fields = fields_of(provider, source, account)
        found |= {name: fields[path] for name, path in _variables_in(provider, source)}
    for name, path in _variables_of_site(provider):
        [site] = sites_of(provider, account, 1)
        found[name] = pick(site, [path])
    return {name: provider.value_of(name, value) for name, value in found.items()}


def _variables_of_site(provider: Provider) -> Iterable[tuple[str, str]]:
    rules = provider.accounts
    named: Mapping[str, str] = {rules.variable: rules.id, **rules.variables}
    return [(name, path) for name, path in named.items() if name in provider.asked_of("accounts")]
