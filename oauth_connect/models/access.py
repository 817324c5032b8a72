"""From a connection to a usable token: the instance, its row's store and the engine, put together."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import router
from django.db.models import QuerySet

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.engine.refresh import Need, Refresh
from oauth_connect.engine.store import ACTIVE, Event
from oauth_connect.errors import (
    CallError,
    InvalidProvider,
    ProviderMisconfigured,
    ReauthorizationRequired,
)
from oauth_connect.models import ending, provider_state
from oauth_connect.protocol import messages
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.row import RowStore

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

logger = logging.getLogger("oauth_connect")
TOO_YOUNG = timedelta(minutes=1)


class ConnectionSource:
    """The TokenSource of a connection's session."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.provider = usable_provider(connection)

    def current(self) -> Token:
        return fresh(self.connection, conf.refresh_leeway)

    def renewed(self, rejected: Token) -> Token | None:
        """After a 401: what somebody else saved meanwhile, else one refresh through the lease.

        A token younger than a minute is not refreshed: the API refuses it for another reason.
        """
        store = row_store(self.connection)
        row = store.read()
        if row is None or row.token is None:
            raise self.connection.reauthorization_required("disconnected")
        if row.status != ACTIVE:
            raise self.connection.reauthorization_required(row.last_error)
        if row.token.access_token != rejected.access_token:
            store.adopt(row)
            return row.token
        if not row.token.renewable or datetime.now(UTC) - rejected.obtained_at < TOO_YOUNG:
            return None
        return obtain(self.connection, Need(conf.refresh_leeway, newer_than=row.version), store)


def fresh(connection: Connection, leeway: timedelta) -> Token:
    """Return a token that outlives the leeway. Costs no query while the instance's own does."""
    token = connection.token
    need = Need(leeway)
    if connection.status == ACTIVE:
        enough = leeway if token.renewable else timedelta(0)
        if token.valid_for(enough, datetime.now(UTC)):
            return token
    return obtain(connection, need)


def replaced(connection: Connection) -> Token:
    """Refresh now: a back-off does not hold it up, and a valid token is no reason to wait."""
    need = Need(conf.refresh_leeway, newer_than=connection.version, insist=True)
    return obtain(connection, need)


def obtain(connection: Connection, need: Need, store: RowStore | None = None) -> Token:
    """Run the refresh protocol for a connection."""
    store = store or row_store(connection)
    held = store.held() if connection.status == ACTIVE else None
    usable_provider(connection)
    try:
        provider = serving_provider(connection)
    except CallError:  # its endpoints cannot be discovered now; a token that still works goes on serving
        if held is not None and need.tolerates(held, datetime.now(UTC)):
            return connection.token
        raise
    try:
        with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
            Refresh(store, server, need, leeway=conf.refresh_leeway).obtain(held)
        follow_instance(connection)
    except ReauthorizationRequired as error:
        raise connection.reauthorization_required(error.reason, str(error)) from None
    return connection.token


def serving_provider(connection: Connection) -> Provider:
    """Return the provider with the client that is registered where this connection's token is from."""
    return conf.provider(connection.provider, connection.owner).at_instance(connection.variables)


def follow_instance(connection: Connection) -> None:
    """Keep up with what each token answer says anew: an organisation may have moved to another host.

    What does not fit its pattern is not taken over: the token goes on to where it went.
    """
    provider = conf.declared_provider(connection.provider, connection.owner)
    said = {}
    for name, variable in provider.asked_of("token_response").items():
        given = messages.pick(connection.token.extra, [variable.field or name])
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
        alias = router.db_for_write(type(connection), instance=connection)
        rows: QuerySet[Any] = QuerySet(type(connection), using=alias)
        rows.filter(pk=connection.pk).update(variables=variables)
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


def row_store(connection: Connection) -> RowStore:
    return RowStore(
        connection,
        tell=lambda event: tell(connection, event),
        bury=lambda token: ending.bury(connection, token),
    )


def tell(connection: Connection, event: Event) -> None:
    """Log what happened, alarm where the settings are at fault, and send the signal."""
    level = logging.INFO if event.action == "refreshed" else logging.WARNING
    details = {
        "action": event.action,
        "provider": connection.provider,
        "connection": str(connection.pk),
    }
    logger.log(level, "%s %s %s", event.action, connection.provider, event.code, extra=details)
    if event.alarm:
        change = provider_state.end_alarm if event.action == "refreshed" else provider_state.begin_alarm
        change(connection, event.code)
    extra = {"code": event.code} if event.code else {}
    signal = getattr(signals, event.action)
    signal.send_robust(sender=type(connection), connection=connection, **extra)
