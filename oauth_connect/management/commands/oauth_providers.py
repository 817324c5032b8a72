from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandParser

from oauth_connect import presets
from oauth_connect.conf import conf
from oauth_connect.errors import InvalidProvider
from oauth_connect.management.base import Command as Base
from oauth_connect.management.output import table
from oauth_connect.management.providers import summary as catalogue
from oauth_connect.management.providers.description import described
from oauth_connect.management.providers.settings_entry import LOCATIONS, pasted
from oauth_connect.management.providers.summary import PRESET, Summary, connectable
from oauth_connect.management.redirect_uris import RedirectURI, redirect_uri
from oauth_connect.presets import lint
from oauth_connect.protocol.provider import Provider

NO_REDIRECT = RedirectURI(note="none: users connect no accounts in a browser")
HEAD = ("name", "label", "flows", "refresh", "rotation", "needs")
MARK = "*"


class Command(Base):
    help = (
        "Lists the configured providers and the presets. With a name, or a part of one, shows the settings "
        "to paste, the redirect URI to register and what to know. With --lint, checks a preset's file."
    )
    needs_time_zone = False  # no database is used
    examples = """\
  manage.py oauth_providers                  all of them
  manage.py oauth_providers NAME             one, with the settings to paste and the redirect URI to register
  manage.py oauth_providers PART             all with this text in their name
  manage.py oauth_providers --lint FILE      the rules for a preset, applied to a file
  manage.py oauth_providers --json"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "slug", nargs="?", metavar="NAME", help="a configured provider, a preset, or a part of a name"
        )
        parser.add_argument("--lint", metavar="FILE", help="check a preset's file, and connect nothing")

    def work(self, **options: Any) -> None:
        if options["lint"] is not None and options["slug"]:
            self.usage_error("Give a NAME or --lint FILE, not both.")
        if options["lint"] is not None:
            self._lint(options["lint"])
        elif options["slug"]:
            self._find(options["slug"])
        else:
            self._list(list(catalogue.everything()))

    # --- all ------------------------------------------------------------------------------------

    def _list(self, found: Sequence[Summary]) -> None:
        right = [summary for summary in found if not summary.problem]
        head, *lines = table(HEAD, [cells(summary) for summary in right])
        self.line(head)
        for heading, group in groupby(zip(right, lines, strict=True), key=lambda pair: pair[0].heading):
            self.line(f"\n{heading}")
            for _, text in group:
                self.line(text)
        if any(summary.doubts for summary in right):
            self.line(f"\n{MARK} not everything is verified: oauth_providers NAME says what")
        wrong = [summary for summary in found if summary.problem]
        for summary in wrong:
            self.line(f"{summary.name}: WRONG: {summary.problem}", verbosity=0)
        self.document({"providers": [asdict(summary) for summary in found]})
        if wrong:
            self.failed(f"Wrong: {', '.join(summary.name for summary in wrong)}.")

    # --- one ------------------------------------------------------------------------------------

    def _find(self, text: str) -> None:
        found = catalogue.named_like(text)
        if not found:
            similar = catalogue.similar(text) or "."
            self.usage_error(
                f"There is no provider and no preset {text!r}{similar} oauth_providers lists them all."
            )
        if len(found) > 1:
            self._list(found)
        else:
            self._show(found[0])

    def _show(self, summary: Summary) -> None:
        slug = summary.name
        if summary.problem:
            self.usage_error(summary.problem)
        about = catalogue.about_of(slug)
        provider = catalogue.example(slug) if summary.kind == PRESET else conf.declared_provider(slug)
        resolved = _resolved(provider)
        uri = redirect_uri(slug) if connectable(provider) else NO_REDIRECT
        paste = list(pasted(slug, provider))
        for text in described(resolved, summary, about):
            self.line(text)
        self.line("\nRedirect URI to register at the provider:")
        self.line(f"  {uri.uri or uri.problem or uri.note}")
        if about and about.redirect_uri:
            self.line(f"  {about.redirect_uri}")
        self.line("\nSettings:")
        for text in paste:
            self.line(f"  {text}")
        self.document(
            {
                **asdict(summary),
                "documentation": provider.documentation,
                "endpoints": {name: getattr(resolved, name) for name in LOCATIONS},
                "client_authentication": provider.client_authentication,
                "scopes": list(provider.scopes),
                "api_hosts": list(provider.api_hosts),
                "redirect_uri": uri.uri,
                "redirect_uri_problem": uri.problem or uri.note,
                "settings": "\n".join(paste),
                "about": asdict(about) if about else None,
            }
        )

    # --- a file ---------------------------------------------------------------------------------

    def _lint(self, file: str) -> None:
        path = Path(file)
        try:
            whole = presets.read_whole(path)
        except InvalidProvider as error:
            self.usage_error(str(error))
        if whole is None:
            self.usage_error(f"There is no file {path}.")
        problems = list(lint.problems(path.stem, whole))
        for problem in problems:
            self.line(problem, verbosity=0)
        self.document({"file": file, "problems": problems})
        if problems:
            self.failed(f"Wrong: {len(problems)} in {path}.")
        self.line(f"{path}: OK")


def cells(summary: Summary) -> tuple[str, ...]:
    flows, needs = (", ".join(found) or "-" for found in (summary.flows, summary.needs))
    kind = " (disabled)" if summary.kind == catalogue.DISABLED else ""
    name = f"{summary.name}{MARK if summary.doubts else ''}{kind}"
    return (name, summary.label, flows, summary.refresh, summary.rotation, needs)


def _resolved(provider: Provider) -> Provider:
    with suppress(InvalidProvider, ImproperlyConfigured):  # a missing value: endpoints show their variables
        return provider.resolve({})
    return provider
