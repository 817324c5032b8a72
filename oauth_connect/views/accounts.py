"""What the list of connected accounts shows, on the page and in the JSON API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from oauth_connect.conf import conf
from oauth_connect.flows import asked_scopes
from oauth_connect.flows.calling import has_consent
from oauth_connect.flows.site import is_undecided, lists_sites
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.choose import Use
from oauth_connect.views.pages import offered

NOT_OFFERED = "not_offered"
NO_LONGER_OFFERED = _("No longer offered by this site")


@dataclass(frozen=True)
class Entry:
    """A connection as the list shows it.

    ``provider``: None if the user cannot connect the account again here. ``is_gone``: the site does not use
    the provider any more. ``use``: whether calls use this one of several accounts.
    """

    connection: Connection
    provider: Provider | None
    is_gone: bool
    use: Use

    @property
    def health(self) -> str:
        """The status of the connection, or ``not_offered`` if the site does not use its provider any more."""
        return NOT_OFFERED if self.is_gone else self.connection.status

    @property
    def health_text(self) -> Any:
        return NO_LONGER_OFFERED if self.is_gone else self.connection.get_status_display()

    @property
    def has_sites(self) -> bool:
        return self.is_active and self.provider is not None and lists_sites(self.provider)

    @property
    def is_active(self) -> bool:
        return self.connection.status == Connection.Status.ACTIVE

    @property
    def is_undecided(self) -> bool:
        return self.provider is not None and is_undecided(self.provider, self.connection)

    @cached_property
    def missing_scopes(self) -> list[str]:
        """The scopes of the settings to which the user has not consented."""
        provider = self.provider
        if provider is None:
            return []
        asked = [scope for scope in asked_scopes(provider, (), None) if scope in provider.scopes]
        return [scope for scope in asked if not has_consent(provider, self.connection, [scope])]

    def needs(self) -> Iterator[str]:
        """Yield what the user should do."""
        if self.provider and not self.is_active:
            yield "reconnect"
        elif self.provider and self.connection.reconnects_soon:
            yield "reconnect_soon"
        if self.missing_scopes:
            yield "scopes"
        if self.is_active and self.is_undecided:
            yield "choose_site"
        if self.use.is_open:
            yield "choose_account"


@dataclass(frozen=True)
class Accounts:
    """An owner's connections, and the providers on offer."""

    entries: list[Entry]
    providers: list[Provider]

    @property
    def addable(self) -> list[Provider]:
        """The providers at which the owner can connect one account more.

        Where one account is allowed, another one replaces it. The account's own card has the link.
        """
        return [one for one in self.providers if not (one.one_account and self.count_of(one.slug))]

    def count_of(self, provider: str) -> int:
        return sum(entry.connection.provider == provider for entry in self.entries)


def accounts_of(owner: Owner) -> Accounts:
    """Return what the list shows. Needs one query, decrypts nothing, and sends no request."""
    rows = Connection.objects.from_primary().for_owner(owner).exclude(status=Connection.Status.REVOKED)
    found = [row for row in rows.order_by("provider", "account_label") if row.owner_agrees]
    by_slug: dict[str, list[Connection]] = {row.provider: [] for row in found}
    for row in found:
        by_slug[row.provider].append(row)
    # Each once, because a site's PROVIDER_LOADER may query a database.
    offers = {slug: offered(slug, owner.key) for slug in {**dict.fromkeys(conf.provider_slugs), **by_slug}}
    entries = [
        entry for slug, of_slug in by_slug.items() for entry in _entries(offers[slug], of_slug, owner.key)
    ]
    return Accounts(entries, [one for slug in conf.provider_slugs if (one := offers[slug])])


def _entries(provider: Provider | None, rows: Sequence[Connection], owner: str) -> Iterator[Entry]:
    gone = provider is None and is_gone(rows[0].provider, owner)
    for row in rows:
        yield Entry(row, provider, gone, Use.of(row, rows))


def is_gone(slug: str, owner: str) -> bool:
    """Return whether a provider has no entry, a wrong one, or is disabled."""
    try:
        return not conf.declared_provider(slug, owner).enabled
    except ImproperlyConfigured:
        return True
