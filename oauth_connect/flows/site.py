"""Which of several sites, tenants or organisations of one account a connection uses."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import router

from oauth_connect.conf import conf
from oauth_connect.flows.account import Account, Site, accessible_sites
from oauth_connect.models import Connection, Owner
from oauth_connect.models.row import UNDECIDED, rows_of
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import callback
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores.transactions import write_transaction
from oauth_connect.tracebacks import without_locals


def lists_sites(provider: Provider) -> bool:
    """Return whether the accounts of a provider have sites of which a connection uses one."""
    return provider.accounts.variable in provider.asked_of("accounts")


def is_undecided(provider: Provider, connection: Connection) -> bool:
    """Return whether the account has several sites, and the user has chosen none."""
    return lists_sites(provider) and connection.variables.get(provider.accounts.variable) == UNDECIDED


@without_locals
def sites_of(connection: Connection) -> list[Site]:
    """Ask the provider what a connection's token can access. Refreshes the token if needed.

    Raises CallbackRefused, the errors of ``access_token`` and those of AuthorizationServer.
    """
    connection.access_token()
    provider = _without_site(connection)
    with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
        return accessible_sites(server, connection.token)


@without_locals
def use_site(connection: Connection, site: Site) -> None:
    """Let a connection use this one of ``sites_of``.

    Raises CallbackRefused for a value that does not fit its variable. Raises Connection.DoesNotExist if the
    connection was disconnected or handed over while the provider was asked.
    """
    provider = conf.provider(connection.provider, connection.owner)
    values = {name: callback.value_from(provider, name, value) for name, value in site.values.items()}
    alias = router.db_for_write(Connection)
    with write_transaction(alias, Connection._meta.db_table):
        rows = rows_of(Connection, alias).filter(pk=connection.pk, owner=connection.owner)
        used = rows.exclude(status=Connection.Status.REVOKED)
        present = used.select_for_update().values_list("variables", flat=True).get()
        rows.update(variables={**present, **values})
    connection.variables = {**present, **values}


def site_in_use(owner: Owner, provider: Provider, account: Account, sites: Sequence[Site]) -> Site | None:
    """Return the one of an account's sites that the owner's connection uses now, or None."""
    rows = Connection.objects.from_primary().for_owner(owner).filter(provider=provider.slug)
    found = [row.variables for row in rows.only("account_id", "variables") if row.account_id == account.id]
    used = {variables.get(provider.accounts.variable) for variables in found}
    return next((site for site in sites if site.id in used), None)


def _without_site(connection: Connection) -> Provider:
    """Return the provider as it is before a site was chosen."""
    provider = conf.provider(connection.provider, connection.owner)
    late = provider.asked_of("accounts")
    return provider.resolve_with_client(
        {name: value for name, value in connection.variables.items() if name not in late}
    )
