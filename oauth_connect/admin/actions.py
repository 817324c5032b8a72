"""The actions of staff: refresh or disconnect a few connections, and report the outcome of each."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from oauth_connect.admin.error_texts import shown_code
from oauth_connect.errors import (
    ConnectionLocked,
    InvalidProvider,
    KeyUnavailable,
    OwnerMismatch,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.flows.disconnect import Outlook, awaits_revocation, outlook
from oauth_connect.models import Connection

logger = logging.getLogger("oauth_connect.admin")

MAX_SELECTED = 50
# Seconds after which a request starts no further connection. A web server that kills its worker in the
# middle of a refresh loses a rotated token.
BUDGET = 10.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of an action, as a text and a level of Django's messages."""

    text: Any
    level: int = messages.WARNING


Act = Callable[[Connection, Any], Outcome]

REFRESHED = Outcome(gettext_lazy("Refreshed"), messages.SUCCESS)
NOT_REFRESHABLE = Outcome(gettext_lazy("Still valid; the provider issued no refresh token"), messages.INFO)
DISCONNECTED = Outcome(gettext_lazy("Disconnected"), messages.SUCCESS)
ALREADY_DISCONNECTED = Outcome(gettext_lazy("Already disconnected"), messages.INFO)
WAITING = Outcome(gettext_lazy("Disconnected here; the provider has not revoked the token yet"))
ENDED: dict[Outlook, Outcome] = {
    "revoked": DISCONNECTED,
    "kept": Outcome(
        gettext_lazy("Disconnected. Another connection uses the same access; it is revoked with that one"),
        messages.SUCCESS,
    ),
    "unsupported": Outcome(
        gettext_lazy(
            "Disconnected here. The provider cannot revoke a token; its owner must withdraw access on the "
            "provider's own pages"
        ),
        messages.SUCCESS,
    ),
    "unreadable": Outcome(
        gettext_lazy(
            "Disconnected here. No configured key opens the token, so it could not be revoked at the "
            "provider. The owner must withdraw access on the provider's own pages"
        )
    ),
}
OUT_OF_TIME = Outcome(gettext_lazy("Not done, because the time ran out; select again"))
MISCONFIGURED = Outcome(
    gettext_lazy("The provider does not accept this site's client; correct the settings"), messages.ERROR
)
SETTINGS = Outcome(gettext_lazy("The provider's settings are missing or wrong"), messages.ERROR)
UNEXPECTED = Outcome(gettext_lazy("An unexpected error occurred; see the log"), messages.ERROR)

OUTCOMES: dict[type[Exception], Outcome] = {
    ReauthorizationRequired: Outcome(gettext_lazy("The owner must connect the account again")),
    ProviderUnavailable: Outcome(gettext_lazy("The provider is not available; try again later")),
    ConnectionLocked: Outcome(gettext_lazy("Another transaction has locked the row; try again")),
    ProviderMisconfigured: MISCONFIGURED,
    ProviderRejected: Outcome(gettext_lazy("The provider refused the request"), messages.ERROR),
    KeyUnavailable: Outcome(
        gettext_lazy("No configured key opens the token; put back the key that sealed it"), messages.ERROR
    ),
    OwnerMismatch: Outcome(
        gettext_lazy("Owner and user are not the same; run manage.py oauth_repair_owners"), messages.ERROR
    ),
    ImproperlyConfigured: SETTINGS,
    InvalidProvider: SETTINGS,
}


class Report:
    """Collects connections by outcome, with one message for each outcome."""

    def __init__(self) -> None:
        self._names: dict[Outcome, list[str]] = defaultdict(list)

    def add(self, outcome: Outcome, connection: Connection, code: str = "") -> None:
        name = f"{connection} ({shown_code(code)})" if code else str(connection)
        self._names[outcome].append(name)

    def messages(self) -> Iterable[tuple[str, int]]:
        for outcome, names in self._names.items():
            details = {"outcome": outcome.text, "count": len(names), "names": ", ".join(names)}
            yield _("%(outcome)s (%(count)d): %(names)s.") % details, outcome.level


def refresh(connection: Connection, staff: Any) -> Outcome:
    """Refresh now. Skip a user's token that is valid and has no refresh token."""
    if connection.status == Connection.Status.ACTIVE and not connection.is_machine:
        token = connection.token
        if not token.refresh_token and not token.is_expired(datetime.now(UTC)):
            return NOT_REFRESHABLE
    connection.refresh()
    return REFRESHED


def disconnect(connection: Connection, staff: Any) -> Outcome:
    """Disconnect, whatever the state of the token. The history records the staff user."""
    if connection.status == Connection.Status.REVOKED:
        return ALREADY_DISCONNECTED
    before = outlook(connection)
    connection.disconnect(actor=staff, by_staff=True)
    return WAITING if awaits_revocation(connection) else ENDED[before]


def carry_out(
    act: Act, connections: Iterable[Connection], staff: Any, log: Callable[[Connection, str], object]
) -> Report:
    """Act on each connection until the time runs out. A failure does not stop the others."""
    report = Report()
    started = time.monotonic()
    for connection in connections:
        if time.monotonic() - started > BUDGET:
            report.add(OUT_OF_TIME, connection)
            continue
        outcome, code = _attempt(act, connection, staff)
        report.add(outcome, connection, code)
        log(connection, f"{outcome.text} ({shown_code(code)})" if code else str(outcome.text))
    return report


def _attempt(act: Act, connection: Connection, staff: Any) -> tuple[Outcome, str]:
    try:
        return act(connection, staff), ""
    except Exception as error:
        for kind, outcome in OUTCOMES.items():
            if isinstance(error, kind):
                return outcome, getattr(error, "code", "")
        details = {"action": "staff_action_failed", "connection": str(connection.pk)}
        logger.exception("a connection's %s by staff failed", act.__name__, extra=details)
        return UNEXPECTED, ""
