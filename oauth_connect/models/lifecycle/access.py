"""Gets a usable token for a connection: combines the instance, the store of its row, and the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.db import router
from django.db.models import Model

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.engine.client_credentials import ClientCredentials, ClientCredentialsRequest
from oauth_connect.engine.refresh import Need, Refresh
from oauth_connect.engine.refused_again import log_refused_again
from oauth_connect.engine.store import ACTIVE, Event
from oauth_connect.errors import (
    CallError,
    InvalidProvider,
    ProviderMisconfigured,
    ReauthorizationRequired,
)
from oauth_connect.models.lifecycle import history, machine_row, orphan, provider_health
from oauth_connect.models.lifecycle.async_access import in_thread
from oauth_connect.models.provider_state import ProviderState
from oauth_connect.models.row import (
    CHOICE_COLUMNS,
    IDENTITY_COLUMNS,
    PROTOCOL_COLUMNS,
    ConnectionRow,
    rows_of,
)
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.grants.instance import named_variables
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import COLUMNS, table_of
from oauth_connect.stores.row import RowStore, check_owner
from oauth_connect.stores.whole_rows import rows_where
from oauth_connect.tracebacks import methods_without_locals

logger = logging.getLogger("oauth_connect")
# Without these columns, no call is made.
NEEDED = frozenset({*COLUMNS, "variables", "owner", "user_id", "provider", "grant"})
# Not the site's own: save() would write a value over a newer one that the caller never asked for.
COMPLETED = NEEDED | PROTOCOL_COLUMNS | IDENTITY_COLUMNS | CHOICE_COLUMNS


@methods_without_locals
class ConnectionSource:
    """The TokenSource of a connection's session."""

    def __init__(self, connection: ConnectionRow, provider: Provider | None = None) -> None:
        self.connection = connection
        self.provider = provider or usable_provider(connection)
        self._variables = connection.variables

    def current(self) -> Token:
        token = valid_token(self.connection, conf.refresh_leeway)
        if self._has_moved():
            self._follow(usable_provider(self.connection))
        return token

    async def acurrent(self) -> Token:
        token = await avalid_token(self.connection, conf.refresh_leeway)
        await self._afollow()
        return token

    async def arenewed(self, rejected: Token) -> Token | None:
        key = ("renewed", rejected.access_token)
        token = await in_thread(self.connection, key, lambda row: ConnectionSource(row).renewed(rejected))
        await self._afollow()
        return token

    def renewed(self, rejected: Token) -> Token | None:
        """Return the token to use after a 401: a newer stored one, else one from a refresh.

        Return None if the token was itself requested after a 401 just now. Then the API has another reason.
        """
        token = self._renewed(rejected)
        if self._has_moved():
            self._follow(usable_provider(self.connection))
        return token

    def _has_moved(self) -> bool:
        """Return whether a token response has named another instance, such as another host of the API."""
        return bool(self.connection.variables != self._variables)

    def _follow(self, provider: Provider) -> None:
        self.provider, self._variables = provider, self.connection.variables

    async def _afollow(self) -> None:
        if self._has_moved():
            self._follow(await usable_provider_in_thread(self.connection))

    def _renewed(self, rejected: Token) -> Token | None:
        store = row_store(self.connection)
        row = store.read()
        if self.connection.is_machine and (row is None or row.token is None):
            return run_refresh(self.connection, Need(conf.refresh_leeway))
        if row is None or row.token is None:
            raise self.connection.reauthorization_required("disconnected")
        if row.status != ACTIVE:
            raise self.connection.reauthorization_required(row.last_error)
        if row.token.access_token != rejected.access_token:
            store.adopt(row)
            follow_instance(self.connection, store)
            return row.token
        if not row.token.renewable:
            return None
        # A refresh that is under way, for whatever reason, is waited for.
        if row.token.is_refused_again(datetime.now(UTC)) and not row.leased:
            token = (store.key, row.version)
            log_refused_again(token, provider=self.provider.slug, connection=str(self.connection.pk))
            return None
        need = Need(conf.refresh_leeway, newer_than=row.version, after_401=True)
        return run_refresh(self.connection, need, store)


def valid_token(connection: ConnectionRow, leeway: timedelta) -> Token:
    """Return a token that is valid beyond the leeway. While the instance has one, this costs no query."""
    complete(connection)
    return cached_token(connection, leeway) or run_refresh(connection, Need(leeway))


async def avalid_token(connection: ConnectionRow, leeway: timedelta) -> Token:
    """``valid_token`` for async code. While the instance has a valid token, this costs no thread."""
    loaded = {"sealed_token", "status", "owner", "user_id"} <= connection.__dict__.keys()
    if loaded and (token := cached_token(connection, leeway)):
        return token
    return await in_thread(connection, ("valid_token", leeway), lambda row: valid_token(row, leeway))


def cached_token(connection: ConnectionRow, leeway: timedelta) -> Token | None:
    """Return the instance's own token if it is valid beyond the leeway. Raises OwnerMismatch."""
    connection.check_owner()
    if connection.is_machine and not connection.sealed_token:
        return None  # no token was requested yet
    token = connection.token
    needed = leeway if token.renewable else timedelta(0)
    usable = connection.status == ACTIVE and token.valid_for(needed, datetime.now(UTC))
    return token if usable else None


async def asource(connection: ConnectionRow) -> ConnectionSource:
    """Return the source of a connection."""
    return ConnectionSource(connection, await usable_provider_in_thread(connection))


async def usable_provider_in_thread(connection: ConnectionRow) -> Provider:
    """``usable_provider`` for async code. Only a PROVIDER_LOADER needs a thread."""
    if not conf.loads_providers:
        return usable_provider(connection)
    return await in_thread(connection, "provider", usable_provider)


def refreshed_token(connection: ConnectionRow) -> Token:
    """Refresh now, also within a back-off and while the token is valid."""
    complete(connection)
    need = Need(conf.refresh_leeway, newer_than=connection.version, force=True)
    return run_refresh(connection, need)


async def arefreshed_token(connection: ConnectionRow) -> Token:
    """``refreshed_token`` for async code."""
    version = connection.__dict__.get("version")
    return await in_thread(connection, ("refreshed_token", version), refreshed_token)


def run_refresh(connection: ConnectionRow, need: Need, store: RowStore | None = None) -> Token:
    """Run the refresh protocol for a connection, and return a token that meets the need."""
    store = store or row_store(connection)
    held = store.held() if connection.status == ACTIVE else None
    usable_provider(connection)
    if connection.variables:
        _read_variables(connection, store)
    try:
        provider = resolved_provider(connection)
    except CallError:  # discovery fails: serve the present token while it is valid
        if held is not None and need.tolerates(held, datetime.now(UTC)):
            return connection.token
        raise
    try:
        with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
            _protocol(connection, store, server, need).obtain(held)
        follow_instance(connection, store)
    except ReauthorizationRequired as error:
        if connection.is_machine and machine_row.recreate_row(connection):
            # The versions of the new row begin at 0.
            return run_refresh(connection, replace(need, newer_than=None))
        raise connection.reauthorization_required(error.reason, str(error)) from None
    return connection.token


def _protocol(connection: ConnectionRow, store: RowStore, server: AuthorizationServer, need: Need) -> Refresh:
    if not connection.is_machine:
        return Refresh(store, server, need, leeway=conf.refresh_leeway)
    request = ClientCredentialsRequest(
        tuple(connection.requested_scopes), connection.resource, connection.audience
    )
    return ClientCredentials(store, server, need, leeway=conf.refresh_leeway, request=request)


def resolved_provider(connection: ConnectionRow) -> Provider:
    """Return the connection's provider with the client that is registered at its instance."""
    return conf.provider(connection.provider, connection.owner).resolve_with_client(connection.variables)


def _read_variables(connection: ConnectionRow, store: RowStore) -> None:
    """Give an instance the row's variables: another process may have connected the account elsewhere.

    A row's refresh token is for the server that the row's variables name.
    """
    row = store.read()
    if row is not None:
        connection.variables = row.columns.get("variables", connection.variables)


def follow_instance(connection: ConnectionRow, store: RowStore | None = None) -> None:
    """Store the variables that a token response names: an organisation may have moved to another host.

    A value that does not fit its pattern is ignored, and calls go to the old host. The write goes where the
    token is saved, because a rollback must not leave the new token with the old host.
    """
    provider = conf.declared_provider(connection.provider, connection.owner)

    def on_refused(error: InvalidProvider) -> None:
        details = {
            "action": "variable_refused",
            "provider": provider.slug,
            "connection": str(connection.pk),
        }
        logger.warning("%s", error, extra=details)

    if not provider.asked_of("token_response"):
        return
    variables = {**connection.variables, **named_variables(provider, connection.token, on_refused)}
    if variables != connection.variables:
        model = type(connection)

        def statement(alias: str) -> None:
            rows_of(model, alias).filter(pk=connection.id).update(variables=variables)

        _outside_transaction(store or row_store(connection), model, statement, _variables_lost, also_now=True)
        connection.variables = variables


def usable_provider(connection: ConnectionRow) -> Provider:
    """Return the provider as a session needs it.

    Raises ProviderMisconfigured where it is disabled, and OwnerMismatch.
    """
    complete(connection)
    connection.check_owner()
    provider = connection.get_declared_provider()
    if not provider.enabled:
        raise ProviderMisconfigured(
            f"The provider {provider.slug!r} is disabled in the settings (enabled = False).",
            error="provider_disabled",
        )
    return provider


def complete(connection: ConnectionRow) -> None:
    """Load what the caller's query left out (``only``, ``defer``) if a call needs some of it. One query.

    The columns of the refresh protocol are replaced, because a token and its version must come from one read.
    Raises OwnerMismatch if the row has been given to another owner since it was loaded.
    """
    columns = connection.__dict__
    if columns.keys() >= NEEDED or connection._state.adding:
        return
    alias = connection._state.db or router.db_for_read(type(connection), instance=connection)
    for row in rows_where(table_of(type(connection)), alias, id=connection.id):
        present = row.__dict__
        check_owner(connection, present)
        needed = present.keys() & COMPLETED
        columns.update({name: present[name] for name in needed if name not in columns or name in COLUMNS})


def row_store(connection: ConnectionRow, listener: Callable[[Event], None] | None = None) -> RowStore:
    """Return the store of a connection. Its events go to the listener, the history, log and signals."""

    def on_event(event: Event) -> None:
        if listener is not None:
            listener(event)
        history.write(history.of_refresh(connection, event), store)
        if event.alarm:
            alarm(connection, event, store)
        publish(connection, event)

    def on_orphan(token: Token, *, account_changed: bool = False) -> None:
        orphan.keep_or_revoke(connection, token, account_changed=account_changed, state=store.state)

    store = RowStore(connection, on_event=on_event, on_orphan=on_orphan)
    return store


def alarm(connection: ConnectionRow, event: Event, store: RowStore | None = None) -> None:
    """Begin or end the provider's alarm, also if the caller's transaction rolls back. Raises nothing."""
    if event.action == "refreshed":
        end_alarm(connection, store)
        return

    def statement(alias: str) -> None:
        provider_health.begin_alarm(alias, connection.provider, event.code)

    _outside_transaction(store or row_store(connection), ProviderState, statement, _alarm_lost)


def end_alarm(connection: ConnectionRow, store: RowStore | None = None) -> None:
    """End the provider's alarm, because it has accepted this site's client. Otherwise as ``alarm``."""

    def statement(alias: str) -> None:
        provider_health.end_alarm(alias, connection.provider)

    _outside_transaction(store or row_store(connection), ProviderState, statement, _alarm_lost)


def _outside_transaction(
    store: RowStore,
    model: type[Model],
    statement: Callable[[str], None],
    on_failure: Callable[[Exception], None],
    *,
    also_now: bool = False,
) -> None:
    """Run a statement of a refresh where the row is saved. Its error does not stop the refresh."""
    try:
        alias = router.db_for_write(model, instance=store.row)
        if alias == store.alias:
            store.outside_transaction(statement, on_failure, also_now=also_now)
        else:
            statement(alias)
    except Exception as error:
        on_failure(error)


def _alarm_lost(error: Exception) -> None:
    logger.error("an alarm could not be written", exc_info=error, extra={"action": "alarm_failed"})


def _variables_lost(error: Exception) -> None:
    details = {"action": "follow_failed"}
    logger.error("the variables of a token response could not be written", exc_info=error, extra=details)


def publish(connection: ConnectionRow, event: Event) -> None:
    """Log an event and send its signal.

    The history is written by the caller: a bulk run writes the events of many connections together.
    """
    level = logging.INFO if event.action == "refreshed" else logging.WARNING
    details = {
        "action": event.action,
        "provider": connection.provider,
        "connection": str(connection.pk),
        "code": shown(event.code) if event.code else "",
        "endpoint": event.endpoint,
    }
    logger.log(level, "%s %s %s", event.action, connection.provider, details["code"], extra=details)
    extra = {"code": event.code} if event.code else {}
    signal = getattr(signals, event.action)
    signal.send_robust(sender=type(connection), connection=connection, **extra)
