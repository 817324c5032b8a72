"""The admins of provider states, pending revocations and events."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from oauth_connect.admin import display
from oauth_connect.admin.error_texts import explanation, shown_code
from oauth_connect.admin.read_only import ReadOnlyAdmin
from oauth_connect.models import (
    Connection,
    ConnectionEvent,
    PendingRevocation,
    ProviderState,
    RegisteredClient,
)


@admin.register(ProviderState)
class ProviderStateAdmin(ReadOnlyAdmin):
    """Shows the providers with an alarm, and since when."""

    masked = frozenset({"fingerprint"})
    list_display = ["provider", "alarm_badge", "raised", "failures", "blocked"]
    fields = ["provider", "alarm_explained", "alarm_since", "failures", "blocked_until", "updated_at"]
    ordering = ["provider"]

    @admin.display(description=_("alarm"), ordering="alarm")
    def alarm_badge(self, state: ProviderState) -> str:
        return display.badge("bad", shown_code(state.alarm)) if state.alarm else display.NOTHING

    @admin.display(description=_("alarm"))
    def alarm_explained(self, state: ProviderState) -> str:
        if not state.alarm:
            return display.NOTHING
        return format_html("{} {}", self.alarm_badge(state), explanation(state.alarm))

    @admin.display(description=_("since"), ordering="alarm_since")
    def raised(self, state: ProviderState) -> str:
        return display.moment_in_list(state.alarm_since)

    @admin.display(description=_("blocked until"), ordering="blocked_until")
    def blocked(self, state: ProviderState) -> str:
        return display.moment_in_list(state.blocked_until)


@admin.register(RegisteredClient)
class RegisteredClientAdmin(ReadOnlyAdmin):
    """Shows at which servers the site has registered a client by itself."""

    masked = frozenset({"sealed_client"})
    list_display = ["provider", "server", "created_at"]
    list_filter = [("provider", admin.AllValuesFieldListFilter)]
    search_fields = ["server"]
    fields = ["provider", "server", "created_at"]
    ordering = ["provider", "server"]


class _OfConnections(ReadOnlyAdmin):
    """A table that refers to connections. Some of them may have been deleted."""

    @admin.display(description=_("connection"))
    def connection_link(self, row: Any) -> str:
        url = display.change_url(Connection, row.connection_id, self.admin_site.name)
        return display.link(url, row.connection_id)

    @admin.display(description=_("connection"), ordering="connection_id")
    def connection_short(self, row: Any) -> str:
        url = display.change_url(Connection, row.connection_id, self.admin_site.name)
        return display.link(url, str(row.connection_id)[:8])


@admin.register(PendingRevocation)
class PendingRevocationAdmin(_OfConnections):
    """Shows the tokens that their providers have not revoked yet, since when, and which are kept."""

    masked = frozenset({"sealed_token"})
    list_display = [
        "provider",
        "owner",
        "waiting",
        "attempts",
        "next_attempt",
        "error_code",
        "connection_short",
    ]
    list_display_links = ["provider"]
    list_filter = [("provider", admin.AllValuesFieldListFilter)]
    search_fields = ["owner"]
    ordering = ["created_at"]
    fields = [
        "provider",
        "owner",
        "connection_link",
        "client_id",
        "variables",
        "created_at",
        "attempts",
        "next_attempt_at",
        "error_explained",
    ]

    @admin.display(description=_("since"), ordering="created_at")
    def waiting(self, pending: PendingRevocation) -> str:
        return display.moment_in_list(pending.created_at)

    @admin.display(description=_("next attempt"), ordering="next_attempt_at")
    def next_attempt(self, pending: PendingRevocation) -> str:
        if pending.next_attempt_at is None:
            return gettext("when a connection of its account ends")
        return display.moment_in_list(pending.next_attempt_at)

    @admin.display(description=_("last error"), ordering="last_error")
    def error_code(self, pending: PendingRevocation) -> str:
        return shown_code(pending.last_error) or display.NOTHING

    @admin.display(description=_("last error"))
    def error_explained(self, pending: PendingRevocation) -> str:
        if not pending.last_error:
            return display.NOTHING
        return format_html(
            "<code>{}</code> {}", shown_code(pending.last_error), explanation(pending.last_error)
        )


@admin.register(ConnectionEvent)
class ConnectionEventAdmin(_OfConnections):
    """Shows the history of connections."""

    list_display = ["when", "action", "provider", "owner", "actor", "error_code", "connection_short"]
    list_display_links = ["when"]
    list_filter = ["action", ("provider", admin.AllValuesFieldListFilter)]
    list_select_related = ["actor"]
    search_fields = ["owner"]
    ordering = ["-created_at"]
    fields = ["created_at", "action", "provider", "owner", "actor", "error_code", "detail", "connection_link"]

    @admin.display(description=_("when"), ordering="created_at")
    def when(self, event: ConnectionEvent) -> str:
        return display.moment_in_list(event.created_at)

    @admin.display(description=_("error"), ordering="error")
    def error_code(self, event: ConnectionEvent) -> str:
        return shown_code(event.error) or display.NOTHING
