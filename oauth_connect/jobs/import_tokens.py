"""Tokens that another package stored become connections; what is connected already is left alone.

The source of the tokens is handed in: this module knows none of those packages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.errors import CallbackRefused, InvalidProvider, printable_line
from oauth_connect.models import Connection, Owner, history
from oauth_connect.models.lifecycle.connect import seal_new
from oauth_connect.models.row import MAX_ACCOUNT_ID, identity_of, is_account_id
from oauth_connect.protocol.grants import callback, lifetimes, responses
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.lock_timeouts import retried

IMPORTED = "imported"
ALREADY_HERE = "already_here"
# Nothing can be done about these here, and mostly nothing needs to be.
SKIPPED = ("unknown_provider", "not_oauth2", "no_user", "no_token", "expired")
# These the settings can mend, or somebody has to look.
FAILED = ("other_client", "unknown_client", "invalid_settings", "variable_missing", "unreadable")
OUTCOMES = (IMPORTED, ALREADY_HERE, *SKIPPED, *FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignToken:
    """One row of another package. ``provider`` is that package's name; times are aware.

    ``client_id``: of the app that obtained the token; "" where nobody knows. ``scope``: as the token answer
    gave it, None where it was not kept. ``profile``: what is kept of the provider's answers.
    """

    pk: object
    provider: str
    user: Any
    account_id: str
    client_id: str
    obtained_at: datetime
    access_token: object = field(repr=False)
    refresh_token: object = field(default="", repr=False)
    expires_at: datetime | None = None
    scope: object = None
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_oauth2: bool = True


class Source(Protocol):
    """Where another package's rows come from. ``names``: its names of providers, and ours for them."""

    package: str
    names: Mapping[str, str]

    def count(self, providers: Collection[str] = ()) -> int:
        """Return how many rows there are, of these providers (its names) or of all."""

    def read(self, providers: Collection[str] = ()) -> Iterator[Sequence[ForeignToken]]:
        """Yield the rows in batches, always in the same order."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row; ``slug`` is our name of its provider, "" where there is none."""

    pk: str
    provider: str
    slug: str
    outcome: str


class CannotImport(Exception):
    """A row that cannot be taken over; its argument is the outcome."""


class TokenImport:
    """Takes batches of rows over. ``names`` maps a package's names of providers to slugs."""

    def __init__(self, package: str, names: Mapping[str, str], *, dry_run: bool = False) -> None:
        self.package = package
        self.names = names
        self.insert: Callable[[Sequence[Connection]], set[str]] = _missing if dry_run else self._insert
        self._seen: set[str] = set()

    def batch(self, rows: Sequence[ForeignToken]) -> Iterator[Result]:
        """Take rows over and tell of each, in their order."""
        outcomes: list[tuple[ForeignToken, str, str | Connection]] = []
        for row in rows:
            slug = self.names.get(row.provider, row.provider)
            try:
                outcomes.append((row, slug, self._connection(row, slug)))
            except CannotImport as unfit:
                outcomes.append((row, slug, str(unfit)))
        fresh = [one for _, _, one in outcomes if isinstance(one, Connection) and self._is_first(one)]
        inserted = self.insert(fresh)
        for row, slug, made in outcomes:
            yield _result(row, slug, made if isinstance(made, str) else _outcome(made, inserted))

    def _connection(self, row: ForeignToken, slug: str) -> Connection:
        if not isinstance(row.user, get_user_model()):
            raise CannotImport("no_user")
        owner = Owner.of(row.user)
        entry = _entry(slug, owner)
        if not row.is_oauth2:
            raise CannotImport("not_oauth2")
        values = _variables(entry, row)
        provider = _at_instance(entry, values)
        _check_client(provider, row)
        return _unsaved(
            _token(provider, row),
            owner=owner,
            provider=slug,
            account_id=_account_id(provider, row),
            account_label=printable_line(
                responses.pick(row.profile, provider.identity.label), MAX_ACCOUNT_ID
            ),
            client_id=provider.client_id,
            variables=values,
            reconnect_before=lifetimes.reconnect_before(provider, row.obtained_at),
        )

    def _is_first(self, connection: Connection) -> bool:
        """Two names of one provider may have a row each for one account."""
        if connection.identity in self._seen:
            return False
        self._seen.add(connection.identity)
        return True

    def _insert(self, connections: Sequence[Connection]) -> set[str]:
        return _insert_missing(connections, {"imported_from": self.package})


def _outcome(connection: Connection, inserted: set[str]) -> str:
    if connection.identity not in inserted:
        return ALREADY_HERE
    inserted.remove(connection.identity)
    return IMPORTED


def _result(row: ForeignToken, slug: str, outcome: str) -> Result:
    return Result(str(row.pk), row.provider, "" if outcome == "unknown_provider" else slug, outcome)


def _entry(slug: str, owner: Owner) -> Provider:
    try:
        return conf.declared_provider(slug, owner.key)
    except UnknownProvider:
        raise CannotImport("unknown_provider") from None
    except ImproperlyConfigured:
        raise CannotImport("invalid_settings") from None


def _variables(entry: Provider, row: ForeignToken) -> dict[str, str]:
    """Return the values that the token's answer brought, as far as the row has kept them."""
    values = {}
    for name, variable in entry.asked_of("token_response").items():
        if given := responses.pick(row.profile, [variable.field or name]):
            try:
                values[name] = callback.value_from(entry, name, given)
            except CallbackRefused:
                raise CannotImport("variable_missing") from None
    return values


def _at_instance(entry: Provider, values: Mapping[str, str]) -> Provider:
    try:
        provider = entry.resolve_with_client(values)
    except InvalidProvider:
        raise CannotImport("variable_missing") from None
    if provider.variables:
        raise CannotImport("variable_missing")  # only connecting finds them out
    return provider


def _check_client(provider: Provider, row: ForeignToken) -> None:
    """Only the app that obtained a token can refresh it (RFC 6749 section 6)."""
    if not row.client_id:
        raise CannotImport("unknown_client")
    if row.client_id != provider.client_id:
        raise CannotImport("other_client")


def _token(provider: Provider, row: ForeignToken) -> Token:
    renewing = row.refresh_token if provider.refresh.style != "none" else ""
    access_token, refresh_token = row.access_token or "", renewing or ""
    if not access_token:
        raise CannotImport("no_token")
    if not responses.is_printable(access_token) or not responses.is_printable(refresh_token):
        raise CannotImport("unreadable")
    token = Token(
        access_token=str(access_token),
        refresh_token=str(refresh_token),
        scopes=responses.granted_scopes(provider, row.scope, ()),
        # Never after its end: the lifetime would be negative.
        obtained_at=min(filter(None, (row.obtained_at, row.expires_at))),
        expires_at=row.expires_at,
        refresh_token_expires_at=lifetimes.refresh_token_expiry(
            provider, row.profile, row.obtained_at, assume=bool(refresh_token)
        ),
        exchangeable=provider.refresh.style == "exchange_access_token",
    )
    if token.is_expired(datetime.now(UTC)) and not refresh_token:
        raise CannotImport("expired")
    return token


def _account_id(provider: Provider, row: ForeignToken) -> str:
    """Return the id under which the same account would be connected here, so that it is the same row.

    The other package may name an account by something else (an e-mail address), and keep ours beside it.
    """
    if provider.identity_source == "none" and not provider.needs_discovery:
        return ""
    asked = provider.needs_discovery or provider.identity_source in ("userinfo", "id_token")
    account_id = (responses.pick(row.profile, provider.identity.id) if asked else "") or row.account_id
    if not is_account_id(account_id):
        raise CannotImport("unreadable")
    return account_id


# --- inserting ------------------------------------------------------------------------------------


def _unsaved(token: Token, *, owner: Owner, provider: str, account_id: str, **fields: Any) -> Connection:
    """Return a connection with a sealed token, not saved yet."""
    connection = Connection(
        owner=owner.key,
        user=owner.user,
        connected_by=owner.user,
        provider=provider,
        account_id=account_id,
        identity=identity_of(owner.key, provider, account_id),
        **fields,
    )
    seal_new(connection, token)
    return connection


def _missing(connections: Sequence[Connection]) -> set[str]:
    """Return the identities of those that have no row."""
    identities = {connection.identity for connection in connections}
    stored = Connection.objects.using(router.db_for_write(Connection)).filter(identity__in=identities)
    return identities.difference(stored.values_list("identity", flat=True))


def _insert_missing(connections: Sequence[Connection], detail: Mapping[str, Any]) -> set[str]:
    """Insert those that have no row, and return their identities; ``detail`` is for the history.

    If the owner connects the same account at the same moment, that connection is kept.
    """
    alias = router.db_for_write(Connection)
    return retried(alias, partial(_insert, connections, detail, alias))


def _insert(connections: Sequence[Connection], detail: Mapping[str, Any], alias: str) -> set[str]:
    """Insert rows and their history in one transaction: a run that dies must not leave half of it."""
    wanted = _missing(connections)
    new = {connection.pk: connection for connection in connections if connection.identity in wanted}
    with transaction.atomic(using=alias):
        Connection.objects.using(alias).bulk_create(list(new.values()), ignore_conflicts=True)
        inserted = Connection.objects.using(alias).filter(pk__in=new).values_list("pk", flat=True)
        ours = [new[pk] for pk in inserted]
        history.write([history.of(one, history.Action.CONNECTED, detail=detail) for one in ours])
    return {one.identity for one in ours}
