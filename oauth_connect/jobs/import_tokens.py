"""Imports tokens that another package stored, as connections. Skips accounts that are already connected.

The caller passes the source of the tokens, so this module does not depend on those packages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.errors import CallbackRefused, InvalidProvider, printable_line
from oauth_connect.models import Connection, Owner, history
from oauth_connect.models.lifecycle.connect import seal_new
from oauth_connect.models.owner import is_user
from oauth_connect.models.row import MAX_ACCOUNT_ID, identity_of, is_account_id
from oauth_connect.protocol.grants import callback, lifetimes, responses
from oauth_connect.protocol.grants.scopes import granted_scopes
from oauth_connect.protocol.paths import pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.lock_timeouts import retried
from oauth_connect.tracebacks import methods_without_locals

IMPORTED = "imported"
ALREADY_HERE = "already_here"
# The import cannot change these, and usually no action is needed.
SKIPPED = ("unknown_provider", "not_oauth2", "no_user", "no_token", "expired")
# The site's settings can fix these, or the operator must check the row.
FAILED = ("other_client", "unknown_client", "invalid_settings", "variable_missing", "unreadable")
OUTCOMES = (IMPORTED, ALREADY_HERE, *SKIPPED, *FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignToken:
    """One row of another package. ``provider`` is that package's name for it; times are aware.

    ``client_id``: of the app that obtained the token; "" if unknown. ``scope``: from the token response; None
    if the package did not store it. ``profile``: the values of the provider's responses that it stored.
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
    """Reads the rows of another package. ``names``: maps its names of providers to our slugs."""

    package: str
    names: Mapping[str, str]

    def count(self, providers: Collection[str] = ()) -> int:
        """Return the number of rows, of these providers (the package's names) or of all."""

    def read(self, providers: Collection[str] = ()) -> Iterator[Sequence[ForeignToken]]:
        """Yield the rows in batches, always in the same order."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one row. ``slug`` is our name of its provider, "" where there is none."""

    pk: str
    provider: str
    slug: str
    outcome: str


class CannotImport(Exception):
    """Raised for a row that cannot be imported. Its argument is the outcome."""


@methods_without_locals
class TokenImport:
    """Imports rows in batches. ``names`` maps the package's names of providers to our slugs."""

    def __init__(self, package: str, names: Mapping[str, str], *, dry_run: bool = False) -> None:
        self.package = package
        self.names = names
        self.insert: Callable[[Sequence[Connection]], set[str]] = _missing if dry_run else self._insert
        self._seen: set[str] = set()

    def batch(self, rows: Sequence[ForeignToken]) -> Iterator[Result]:
        """Import rows and yield the result of each, in their order."""
        converted: list[tuple[ForeignToken, str, str | Connection]] = []
        for theirs in rows:
            slug = self.names.get(theirs.provider, theirs.provider)
            try:
                converted.append((theirs, slug, self._connection(theirs, slug)))
            except CannotImport as error:
                converted.append((theirs, slug, str(error)))
        new = [ours for _, _, ours in converted if isinstance(ours, Connection) and self._is_first(ours)]
        inserted = self.insert(new)
        for theirs, slug, ours in converted:
            yield _result(theirs, slug, ours if isinstance(ours, str) else _outcome(ours, inserted))

    def _connection(self, row: ForeignToken, slug: str) -> Connection:
        if not is_user(row.user):
            raise CannotImport("no_user")
        owner = Owner.of(row.user)
        entry = _entry(slug, owner)
        if not row.is_oauth2:
            raise CannotImport("not_oauth2")
        values = _variables(entry, row)
        provider = _instance(entry, values)
        _check_client(provider, row)
        return _unsaved(
            _token(provider, row),
            owner=owner,
            provider=slug,
            account_id=_account_id(provider, row),
            account_label=printable_line(pick(row.profile, provider.identity.label), MAX_ACCOUNT_ID),
            client_id=provider.client_id,
            variables=values,
            reconnect_before=lifetimes.reconnect_before(provider, row.obtained_at),
        )

    def _is_first(self, connection: Connection) -> bool:
        """Return False for a second row of one account: the package may use two names for one provider."""
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
    """Return the variables from the provider's documents, as far as the row has stored them."""
    values = {}
    for name, variable in {**entry.asked_of("token_response"), **entry.asked_of("identity")}.items():
        if given := pick(row.profile, [variable.field or name]):
            try:
                values[name] = callback.value_from(entry, name, given)
            except CallbackRefused:
                raise CannotImport("variable_missing") from None
    return values


def _instance(entry: Provider, values: Mapping[str, str]) -> Provider:
    try:
        provider = entry.resolve_with_client(values)
    except InvalidProvider:
        raise CannotImport("variable_missing") from None
    if provider.variables:
        raise CannotImport("variable_missing")  # only a reconnect can find their values
    return provider


def _check_client(provider: Provider, row: ForeignToken) -> None:
    """Only the app that obtained a token can refresh it (RFC 6749 section 6)."""
    if not row.client_id:
        raise CannotImport("unknown_client")
    if row.client_id != provider.client_id:
        raise CannotImport("other_client")


def _token(provider: Provider, row: ForeignToken) -> Token:
    refresh_token = (row.refresh_token if provider.refresh.style != "none" else "") or ""
    access_token = row.access_token or ""
    if not access_token:
        raise CannotImport("no_token")
    if not responses.is_printable(access_token) or not responses.is_printable(refresh_token):
        raise CannotImport("unreadable")
    expires_at = row.expires_at or _missing_expiry(provider, row, str(refresh_token))
    token = Token(
        access_token=str(access_token),
        refresh_token=str(refresh_token),
        scopes=granted_scopes(provider, row.scope, ()),
        # At most ``expires_at``, because the lifetime must not be negative.
        obtained_at=min(filter(None, (row.obtained_at, expires_at))),
        expires_at=expires_at,
        refresh_token_expires_at=lifetimes.refresh_token_expiry(
            provider, row.profile, row.obtained_at, assume=bool(refresh_token)
        ),
        exchangeable=provider.refresh.style == "exchange_access_token",
    )
    if token.is_expired(datetime.now(UTC)) and not refresh_token:
        raise CannotImport("expired")
    return token


def _missing_expiry(provider: Provider, row: ForeignToken, refresh_token: str) -> datetime | None:
    """Return when a token without a stored expiry ends, so that oauth_refresh finds it.

    An assumed lifetime counts only for a token that can be renewed. Another token may live longer, and so may
    one that is to be exchanged and would already have ended: it is tried.
    """
    if known := lifetimes.jwt_expiry(row.access_token):
        return known
    assumed = lifetimes.lifetime(provider.token_response.assumed_lifetime)
    if assumed is None:
        return None
    ends = row.obtained_at + assumed
    is_exchanged = provider.refresh.style == "exchange_access_token" and ends > datetime.now(UTC)
    return ends if refresh_token or is_exchanged else None


def _account_id(provider: Provider, row: ForeignToken) -> str:
    """Return the id that a reconnect of the same account would store, so that both use one row.

    The other package may identify an account differently, for example by its e-mail address. Then our id may
    be in ``profile``.
    """
    if provider.identity_source == "none" and not provider.needs_discovery:
        return ""
    in_profile = provider.needs_discovery or provider.identity_source in ("userinfo", "id_token")
    account_id = (pick(row.profile, provider.identity.id) if in_profile else "") or row.account_id
    if not is_account_id(account_id):
        raise CannotImport("unreadable")
    return account_id


# --- inserting ------------------------------------------------------------------------------------


def _unsaved(token: Token, *, owner: Owner, provider: str, account_id: str, **fields: Any) -> Connection:
    """Return an unsaved connection with a sealed token."""
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
    """Return the identities of the connections that have no row yet."""
    identities = {connection.identity for connection in connections}
    stored = Connection.objects.using(router.db_for_write(Connection)).filter(identity__in=identities)
    return identities.difference(stored.values_list("identity", flat=True))


def _insert_missing(connections: Sequence[Connection], detail: Mapping[str, Any]) -> set[str]:
    """Insert the connections that have no row yet, and return their identities. ``detail``: for the history.

    If the owner connects the same account at the same moment, that connection is kept.
    """
    alias = router.db_for_write(Connection)
    return retried(alias, partial(_insert, connections, detail, alias))


def _insert(connections: Sequence[Connection], detail: Mapping[str, Any], alias: str) -> set[str]:
    """Insert rows and their history in one transaction, so that a crash leaves both or neither."""
    missing = _missing(connections)
    new = {connection.pk: connection for connection in connections if connection.identity in missing}
    with transaction.atomic(using=alias):
        Connection.objects.using(alias).bulk_create(list(new.values()), ignore_conflicts=True)
        inserted = Connection.objects.using(alias).filter(pk__in=new).values_list("pk", flat=True)
        ours = [new[pk] for pk in inserted]
        history.write([history.of(row, history.Action.CONNECTED, detail=detail) for row in ours])
    return {row.identity for row in ours}
