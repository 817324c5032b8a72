"""From a connection to a usable token: the instance, its row's store and the engine, put together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import router
from django.db.models import Model, QuerySet

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.engine.client_credentials import Asked, ClientCredentials
from oauth_connect.engine.refresh import Need, Refresh
from oauth_connect.engine.store import ACTIVE, Event
from oauth_connect.errors import (
    CallError,
    InvalidProvider,
    ProviderMisconfigured,
    ReauthorizationRequired,
)
from oauth_connect.models import ending, history, machine, provider_state
from oauth_connect.models.offloading import away
from oauth_connect.models.provider_state import ProviderState
from oauth_connect.protocol import answers
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.codes import shown
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.row import RowStore

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

logger = logging.getLogger("oauth_connect")
TOO_YOUNG = timedelta(minutes=1)


class ConnectionSource:
    """The TokenSource of a connection's session."""

    def __init__(self, connection: Connection, provider: Provider | None = None) -> None:
        self.connection = connection
        self.provider = provider or usable_provider(connection)

    def current(self) -> Token:
        return fresh(self.connection, conf.refresh_leeway)

    async def acurrent(self) -> Token:
        return await afresh(self.connection, conf.refresh_leeway)

    async def arenewed(self, rejected: Token) -> Token | None:
        what = ("renewed", rejected.access_token)
        return await away(self.connection, what, lambda twin: ConnectionSource(twin).renewed(rejected))

    def renewed(self, rejected: Token) -> Token | None:
        """After a 401: what somebody else saved meanwhile, else one refresh through the lease.

        A token younger than a minute is not refreshed: the API refuses it for another reason. One from
        the future was obtained by a machine with another clock: its age and its expiry say nothing.
        """
        store = row_store(self.connection)
        row = store.read()
        if self.connection.is_machine and (row is None or row.token is None):
            return obtain(self.connection, Need(conf.refresh_leeway))
        if row is None or row.token is None:
            raise self.connection.reauthorization_required("disconnected")
        if row.status != ACTIVE:
            raise self.connection.reauthorization_required(row.last_error)
        if row.token.access_token != rejected.access_token:
            store.adopt(row)
            return row.token
        age = datetime.now(UTC) - rejected.obtained_at
        if not row.token.renewable or timedelta(0) <= age < TOO_YOUNG:
            return None
        return obtain(self.connection, Need(conf.refresh_leeway, newer_than=row.version), store)


def fresh(connection: Connection, leeway: timedelta) -> Token:
    """Return a token that outlives the leeway. Costs no query while the instance's own does."""
    return at_hand(connection, leeway) or obtain(connection, Need(leeway))


async def afresh(connection: Connection, leeway: timedelta) -> Token:
    """``fresh`` for async code. Costs no thread either while the instance's own token does."""
    loaded = {"sealed_token", "status"} <= connection.__dict__.keys()
    if loaded and (token := at_hand(connection, leeway)):
        return token
    return await away(connection, ("fresh", leeway), lambda twin: fresh(twin, leeway))


def at_hand(connection: Connection, leeway: timedelta) -> Token | None:
    """Return the instance's own token where it has one that outlives the leeway."""
    if connection.is_machine and not connection.sealed_token:
        return None  # nobody has asked for one yet
    token = connection.token
    enough = leeway if token.renewable else timedelta(0)
    usable = connection.status == ACTIVE and token.valid_for(enough, datetime.now(UTC))
    return token if usable else None


async def asource(connection: Connection) -> ConnectionSource:
    """Return the source of a connection; what PROVIDER_LOADER does, it does in a thread."""
    if not conf.loads_providers:
        return ConnectionSource(connection)
    return ConnectionSource(connection, await away(connection, "provider", usable_provider))


def replaced(connection: Connection) -> Token:
    """Refresh now: a back-off does not hold it up, and a valid token is no reason to wait."""
    need = Need(conf.refresh_leeway, newer_than=connection.version, insist=True)
    return obtain(connection, need)


async def areplaced(connection: Connection) -> Token:
    """``replaced`` for async code."""
    version = connection.__dict__.get("version")
    return await away(connection, ("replaced", version), replaced)


def obtain(connection: Connection, need: Need, store: RowStore | None = None) -> Token:
    """Run the refresh protocol for a connection."""
    store = store or row_store(connection)
    held = store.held() if connection.status == ACTIVE else None
    usable_provider(connection)
    try:
        provider = resolved_provider(connection)
    except CallError:  # its endpoints cannot be discovered now; a token that still works goes on serving
        if held is not None and need.tolerates(held, datetime.now(UTC)):
            return connection.token
        raise
    try:
        with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
            _protocol(connection, store, server, need).obtain(held)
        follow_instance(connection, store)
    except ReauthorizationRequired as error:
        if connection.is_machine and machine.put_back(connection):
            # Another row by now, whose versions begin anew.
            return obtain(connection, replace(need, newer_than=None))
        raise connection.reauthorization_required(error.reason, str(error)) from None
    return connection.token


def _protocol(connection: Connection, store: RowStore, server: AuthorizationServer, need: Need) -> Refresh:
    if not connection.is_machine:
        return Refresh(store, server, need, leeway=conf.refresh_leeway)
    asked = Asked(tuple(connection.requested_scopes), connection.resource, connection.audience)
    return ClientCredentials(store, server, need, leeway=conf.refresh_leeway, asked=asked)


def resolved_provider(connection: Connection) -> Provider:
    """Return the provider with the client that is registered where this connection's token is from."""
    return conf.provider(connection.provider, connection.owner).resolve_with_client(connection.variables)


def follow_instance(connection: Connection, store: RowStore | None = None) -> None:
    """Keep up with what each token answer says anew: an organisation may have moved to another host.

    What does not fit its pattern is not taken over: the token goes on to where it went. It is written where
    the token is saved: a rollback would put the old host beside the new token.
    """
    provider = conf.declared_provider(connection.provider, connection.owner)
    said = {}
    for name, variable in provider.asked_of("token_response").items():
        given = answers.pick(connection.token.extra, [variable.field or name])
        try:
            said[name] = provider.value_of(name, given)
        except InvalidProvider as error:
            details = {
                "action": "variable_refused",
                "provider": provider.slug,
                "connection": str(connection.pk),
            }
            logger.warning("%s", error, extra=details)
    variables = {**connection.variables, **said}
    if variables != connection.variables:

        def statement(alias: str) -> None:
            rows: QuerySet[Any] = QuerySet(type(connection), using=alias)
            rows.filter(pk=connection.pk).update(variables=variables)

        _apart(store or row_store(connection), type(connection), statement, _instance_lost, now_too=True)
        connection.variables = variables


def usable_provider(connection: Connection) -> Provider:
    """Return what a session needs to know of the provider, unless the settings have turned it off."""
    provider = connection.get_declared_provider()
    if not provider.enabled:
        raise ProviderMisconfigured(
            f"The provider {provider.slug!r} is turned off in the settings (enabled = False).",
            error="provider_disabled",
        )
    return provider


def row_store(connection: Connection, listener: Callable[[Event], None] | None = None) -> RowStore:
    """Return the store of a connection; what happens is written into the history, then told."""

    def heard(event: Event) -> None:
        if listener is not None:
            listener(event)
        history.write(history.of_refresh(connection, event), store)
        if event.alarm:
            alarm(connection, event, store)
        tell(connection, event)

    store = RowStore(connection, tell=heard, bury=lambda token: ending.bury(connection, token))
    return store


def alarm(connection: Connection, event: Event, store: RowStore | None = None) -> None:
    """Begin the provider's alarm, or end it. Whose transaction this is in does not decide; raises nothing."""
    if event.action == "refreshed":
        end_alarm(connection, store)
        return

    def statement(alias: str) -> None:
        provider_state.begin_alarm(alias, connection.provider, event.code)

    _apart(store or row_store(connection), ProviderState, statement, _alarm_lost)


def end_alarm(connection: Connection, store: RowStore | None = None) -> None:
    """The provider has taken this site's client. As ``alarm``."""

    def statement(alias: str) -> None:
        provider_state.end_alarm(alias, connection.provider)

    _apart(store or row_store(connection), ProviderState, statement, _alarm_lost)


def _apart(
    store: RowStore,
    model: type[Model],
    statement: Callable[[str], None],
    lost: Callable[[Exception], None],
    *,
    now_too: bool = False,
) -> None:
    """Run what goes along with a refresh where its row is saved. What fails is ``lost``: the token stays."""
    try:
        alias = router.db_for_write(model, instance=store.row)
        if alias == store.alias:
            store.apart(statement, lost, now_too=now_too)
        else:
            statement(alias)
    except Exception as error:
        lost(error)


def _alarm_lost(error: Exception) -> None:
    logger.error("an alarm could not be written", exc_info=error, extra={"action": "alarm_failed"})


def _instance_lost(error: Exception) -> None:
    details = {"action": "follow_failed"}
    logger.error("what an answer says of its instance was lost", exc_info=error, extra=details)


def tell(connection: Connection, event: Event) -> None:
    """Log what happened, and send the signal.

    The history is another matter: whoever has many events writes ``history.of_refresh`` of all at once.
    """
    level = logging.INFO if event.action == "refreshed" else logging.WARNING
    details = {
        "action": event.action,
        "provider": connection.provider,
        "connection": str(connection.pk),
        "code": shown(event.code) if event.code else "",
    }
    logger.log(level, "%s %s %s", event.action, connection.provider, details["code"], extra=details)
    extra = {"code": event.code} if event.code else {}
    signal = getattr(signals, event.action)
    signal.send_robust(sender=type(connection), connection=connection, **extra)
