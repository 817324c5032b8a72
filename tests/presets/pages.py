"""The pages of the providers, made from their presets. ``python -m tests.presets.pages`` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from oauth_connect import presets
from oauth_connect.management.providers import summary as catalogue
from oauth_connect.management.providers.description import (
    CONFIDENCE,
    EVIDENCE,
    PKCE,
    change_line,
    duration,
    lifetimes,
    revocation,
    variable_line,
)
from oauth_connect.management.providers.settings_entry import LOCATIONS, pasted
from oauth_connect.presets.about import About
from oauth_connect.protocol.provider import Provider

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "providers"
MATRIX = DOCS / "providers.md"
BEGIN, END = "<!-- the matrix, written by tests/presets/pages.py -->", "<!-- the end of the matrix -->"
MARK = "\\*"
ABBREVIATIONS = {"cms": "CMS", "crm": "CRM"}
HEAD = ("preset", "flows", "PKCE", "refresh token", "rotates", "lifetimes", "variables", "revocation")


def pages() -> dict[Path, str]:
    """Return the text of every page that is written."""
    names = presets.names()
    written = {FOLDER / f"{name}.md": page(name) for name in names}
    text = MATRIX.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    matrix_lines = "\n".join(matrix(names))
    written[MATRIX] = f"{before}{BEGIN}\n{matrix_lines}\n{END}{rest.partition(END)[2]}"
    return written


# --- the matrix ---------------------------------------------------------------------------------


def matrix(names: Iterable[str]) -> Iterator[str]:
    rows = sorted(map(catalogue.preset, names), key=_order)
    for category, group in groupby(rows, key=lambda row: row.category):
        yield f"\n### {ABBREVIATIONS.get(category) or category.capitalize()}\n"
        yield from table(HEAD, map(_row, group))
    yield ""


def _order(row: catalogue.Summary) -> tuple[int, str]:
    return catalogue.CATEGORIES.index(row.category), row.name


def _row(row: catalogue.Summary) -> tuple[str, ...]:
    provider, about = catalogue.example(row.name), facts(row.name)
    access = f"{duration(about.access_token_seconds)}" if about.access_token_seconds else ""
    mark = MARK if row.doubts else ""
    return (
        f"[`{row.name}`](providers/{row.name}.md){mark}",
        ", ".join(row.flows),
        "off" if row.pkce == "none" else PKCE[about.pkce],
        row.refresh,
        row.rotation,
        "; ".join(filter(None, [access, *lifetimes(provider)])),
        code(provider.variables),
        "none" if revocation(provider) == "none" else provider.revocation.effect,
    )


# --- one page -----------------------------------------------------------------------------------


def page(name: str) -> str:
    text = "\n".join(_lines(name))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _lines(name: str) -> Iterator[str]:
    provider, about = catalogue.example(name), facts(name)
    yield f"# {provider.label}\n"
    yield f"[The provider's documentation]({provider.documentation})."
    yield "All presets: [providers](../providers.md)."
    yield ""
    if about.doubts:
        yield f"> {sentence(about.doubts)} Compare it with the provider's documentation first.\n"
    yield from _settings(name, provider)
    yield from _client(provider, about)
    yield "## What it does\n"
    yield from table(("", ""), _facts(provider, about))
    yield from _endpoints(provider, about)
    yield from _scopes(provider, about)
    yield from section("What to know", bullets(about.caveats))
    yield from section("Announced changes", bullets(map(change_line, about.changes)))
    yield from _errors(provider, about)
    yield from _evidence(about)


def _settings(name: str, provider: Provider) -> Iterator[str]:
    yield "## Settings\n"
    yield "```python"
    yield from pasted(name, provider)
    yield "```\n"
    yield from bullets(variable_line(item) for item in provider.variables.items())
    yield ""


def _client(provider: Provider, about: About) -> Iterator[str]:
    yield "## The client at the provider\n"
    if provider.hooks.register_client:
        yield "Nothing to do: the site registers its clients by itself.\n"
        return
    if provider.authorization_endpoint:
        yield (
            "Redirect URI: your site's address, and the path at which you include the app, then "
            f"`{provider.slug}/callback/`. `manage.py oauth_providers {provider.slug}` prints it. "
            f"{about.redirect_uri}"
        )
    kind = {"none": "public, without a secret"}.get(
        provider.client_authentication, "confidential, with a secret"
    )
    yield f"\nKind of client: {kind}.\n"
    console = about.console
    if console is None:
        yield "Where to click: not verified. See the provider's documentation.\n"
        return
    yield f"[Register it]({console.page}) (the page was read {console.read}):\n"
    yield from (f"{number}. {step}" for number, step in enumerate(console.steps, 1))
    yield ""


def _facts(provider: Provider, about: About) -> Iterator[tuple[str, str]]:
    row = catalogue.summary_of(provider, catalogue.PRESET, (), about)
    pkce = (
        f"off: {provider.authorize.without_pkce_because}"
        if row.pkce == "none"
        else f"S256 ({PKCE[about.pkce]})"
    )
    yield "flows", ", ".join(row.flows)
    yield "PKCE", pkce
    if about.access_token_seconds:
        yield "access token", f"valid about {duration(about.access_token_seconds)}"
    yield "refresh token", row.refresh
    yield "rotation", row.rotation
    if found := "; ".join(lifetimes(provider)):
        yield "a refresh token ends", f"after {found}"
    yield "client authentication", f"`{provider.client_authentication}`"
    yield "identity", f"{code(provider.identity.id)} from {provider.identity_source}"
    yield "API", code([provider.api_base_url] if provider.api_base_url else provider.api_hosts)
    yield "revocation", revocation(provider)
    if provider.environments:
        yield "environments", code(provider.environments)


def _endpoints(provider: Provider, about: About) -> Iterator[str]:
    named = {name: getattr(provider, name) for name in LOCATIONS}
    named["refresh.endpoint"] = provider.refresh.endpoint
    found = [
        (name, f"`{url}`", f"{about.known_how(name)}{', not verified' if about.is_unverified(name) else ''}")
        for name, url in named.items()
        if url
    ]
    yield from section("Endpoints", table(("field", "URL", "known from"), found))


def _scopes(provider: Provider, about: About) -> Iterator[str]:
    yield "\n## Scopes\n"
    yield f"Requested by default: {code(provider.scopes) or 'none'}."
    if about.least_scopes:
        yield f"Enough to connect and to show the account's name: {code(about.least_scopes)}."
    if not about.scope_labels:
        yield "\nWhat each scope allows: *not verified*. See the provider's documentation."
        return
    yield ""
    yield from table(("scope", "allows"), [(f"`{name}`", text) for name, text in about.scope_labels.items()])
    tasks = [(task, code(scopes)) for task, scopes in about.scopes_for.items()]
    if tasks:
        yield ""
        yield from table(("task", "scopes"), tasks)


def _errors(provider: Provider, about: About) -> Iterator[str]:
    meanings = {**provider.callback.errors, **provider.token_response.errors}
    names = dict.fromkeys([*meanings, *about.errors])
    rows = [
        (f"`{name}`", f"`{meanings[name]}`" if meanings.get(name) else "", about.errors.get(name, ""))
        for name in names
    ]
    yield from section("Its own errors", table(("error", "treated as", "meaning"), rows) if rows else ())


def _evidence(about: About) -> Iterator[str]:
    yield "\n## Where this comes from\n"
    yield f"Read {about.read}. Known from {EVIDENCE[about.known_by]}; {CONFIDENCE[about.confidence]}."
    yield ""
    yield from bullets(about.sources)
    if about.fields:
        yield ""
        known = [(f"`{path}`", EVIDENCE[how]) for path, how in about.fields.items()]
        yield from table(("field", "known from"), known)
    if about.differences:
        yield "\nWhere a library has another value:\n"
        yield from bullets(f"{where}: {why}" for where, why in about.differences.items())


# --- Markdown -----------------------------------------------------------------------------------


def section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield f"\n## {title}\n"
        yield from found


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = list(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def bullets(lines: Iterable[str]) -> Iterator[str]:
    return (f"- {line}" for line in lines)


def code(names: Iterable[str] | Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def facts(name: str) -> About:
    about = presets.about(name)
    assert about is not None, name
    return about


if __name__ == "__main__":
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    written = pages()
    FOLDER.mkdir(exist_ok=True)
    for old in set(FOLDER.glob("*.md")) - set(written):
        old.unlink()
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
