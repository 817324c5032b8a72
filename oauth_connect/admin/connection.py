"""The admin of connections."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_user_model
from django.db import connections as databases
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from oauth_connect.admin import display, events
from oauth_connect.admin.actions import MAX_SELECTED, Act, carry_out, disconnect, refresh
from oauth_connect.admin.error_texts import explanation, shown_code
from oauth_connect.admin.filters import ExpiringFilter, FailingFilter
from oauth_connect.admin.read_only import ReadOnlyAdmin
from oauth_connect.models import Connection

Rows = QuerySet[Connection]


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    """Shows connections and their state. Has two actions, each with a permission of its own."""

    # ``extra`` belongs to the site, which may store secrets in it.
    masked = frozenset({"sealed_token", "lease_owner", "lease_until", "identity", "extra"})
    actions = ["refresh_selected", "disconnect_selected"]
    list_display = [
        "account",
        "status_badge",
        "provider_shown",
        "owner_link",
        "expires",
        "refreshed",
        "trouble",
    ]
    list_filter = ["status", ExpiringFilter, FailingFilter, ("provider", admin.AllValuesFieldListFilter)]
    list_select_related = ["user"]
    ordering = ["-created_at"]
    # Also what Django's checks ask for where another admin has ``autocomplete_fields`` to a connection.
    search_fields = ["owner", "account_id", "account_label"]
    search_help_text = gettext_lazy("Search by owner, username, account or account id.")
    fieldsets = [
        (
            None,
            {"fields": ["status_explained", "provider_shown", "account_label", "account_id_shown", "grant"]},
        ),
        (gettext_lazy("Owner"), {"fields": ["owner_link", "owner_key", "connected_by"]}),
        (
            gettext_lazy("Token"),
            {
                "description": gettext_lazy("The token itself is stored sealed and never shown."),
                "fields": ["expires_in_full", "refresh_due", "refreshed_in_full", "granted_scopes"],
            },
        ),
        (
            gettext_lazy("When the owner must connect again"),
            {"fields": ["reconnect_deadline", "refresh_token_deadline"]},
        ),
        (
            gettext_lazy("Failures since the last refresh"),
            {"fields": ["failures", "error_explained", "doubt"]},
        ),
        (
            gettext_lazy("Record"),
            {
                "classes": ["collapse"],
                "fields": [
                    "id",
                    "client_id",
                    "redirect_uri",
                    "requested_scopes",
                    "resource",
                    "audience",
                    "variables",
                    "created_at",
                    "updated_at",
                ],
            },
        ),
    ]

    # --- permissions ----------------------------------------------------------------------------

    def has_refresh_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("oauth_connect.refresh_connection")

    def has_disconnect_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("oauth_connect.disconnect_connection")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return what Django returns. A deleted row's token stays sealed until its provider revokes it."""
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    # --- the list -------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> Rows:
        """Return the rows of the primary: after an action, a replica that lags shows what was before."""
        return super().get_queryset(request).using(router.db_for_write(Connection))

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        # Django 6.1 passes ``action_location``. Django 5.2 does not have this parameter.
        location = {} if action_location is None else {"action_location": action_location}
        found: dict[str, Any] = super().get_actions(request, **location)
        found.pop("delete_selected", None)
        return found

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*super().get_search_fields(request), _username_lookup()]

    @admin.display(description=gettext_lazy("account"), ordering="account_label")
    def account(self, connection: Connection) -> str:
        label, account_id = connection.account_label, connection.account_id
        if label and account_id and label != account_id:
            return format_html('{} <span class="oauth-quiet">{}</span>', label, account_id)
        return label or account_id or _("unnamed")

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def status_badge(self, connection: Connection) -> str:
        return display.status_badge(connection)

    @admin.display(description=gettext_lazy("provider"), ordering="provider")
    def provider_shown(self, connection: Connection) -> str:
        return display.provider(connection)

    @admin.display(description=gettext_lazy("account id"), ordering="account_id")
    def account_id_shown(self, connection: Connection) -> str:
        return display.account_id(connection)

    @admin.display(description=gettext_lazy("owner"), ordering="owner")
    def owner_link(self, connection: Connection) -> str:
        return display.owner(connection, self.admin_site.name)

    @admin.display(description=gettext_lazy("token expires"), ordering="expires_at")
    def expires(self, connection: Connection) -> str:
        return display.moment_in_list(connection.expires_at, _no_expiry(connection))

    @admin.display(description=gettext_lazy("last refreshed"), ordering="last_refreshed_at")
    def refreshed(self, connection: Connection) -> str:
        return display.moment_in_list(connection.last_refreshed_at)

    @admin.display(description=gettext_lazy("failures"), ordering="failures")
    def trouble(self, connection: Connection) -> str:
        code = shown_code(connection.last_error)
        if not connection.failures:
            return code or display.NOTHING
        return format_html('{} <span class="oauth-quiet">{}</span>', connection.failures, code)

    # --- one connection -------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        found = list(super().get_fieldsets(request, obj))
        if events.may_view(request):
            found.insert(-1, (gettext_lazy("History"), {"fields": ["last_events"]}))
        return found

    @admin.display(description=gettext_lazy("last events"))
    def last_events(self, connection: Connection) -> str:
        return events.last_events(connection, self.admin_site.name)

    @admin.display(description=gettext_lazy("status"))
    def status_explained(self, connection: Connection) -> str:
        if connection.status != Connection.Status.REAUTHORIZATION_REQUIRED:
            return display.status_badge(connection)
        advice = _("Only the owner can do this, after signing in, on the site's page of connected accounts.")
        return format_html("{} {}", display.status_badge(connection), advice)

    @admin.display(description=gettext_lazy("owner's key"))
    def owner_key(self, connection: Connection) -> str:
        return connection.owner

    @admin.display(description=gettext_lazy("expires"))
    def expires_in_full(self, connection: Connection) -> str:
        return display.moment_in_full(connection.expires_at, _no_expiry(connection))

    @admin.display(description=gettext_lazy("next refresh"))
    def refresh_due(self, connection: Connection) -> str:
        return display.moment_in_full(connection.refresh_at, _("none is due"))

    @admin.display(description=gettext_lazy("last refreshed"))
    def refreshed_in_full(self, connection: Connection) -> str:
        return display.moment_in_full(connection.last_refreshed_at)

    @admin.display(description=gettext_lazy("granted scopes"))
    def granted_scopes(self, connection: Connection) -> str:
        return (
            format_html_join(" ", "<code>{}</code>", ((scope,) for scope in connection.scopes))
            or display.NOTHING
        )

    @admin.display(description=gettext_lazy("reconnect before"))
    def reconnect_deadline(self, connection: Connection) -> str:
        return display.deadline(connection.reconnect_before)

    @admin.display(description=gettext_lazy("refresh token expires"))
    def refresh_token_deadline(self, connection: Connection) -> str:
        return display.deadline(connection.refresh_token_expires_at)

    @admin.display(description=gettext_lazy("last error"))
    def error_explained(self, connection: Connection) -> str:
        code = connection.last_error
        if not code:
            return display.NOTHING
        return format_html("<code>{}</code> {}", shown_code(code), explanation(code))

    @admin.display(description=gettext_lazy("in doubt"))
    def doubt(self, connection: Connection) -> str:
        if not connection.in_doubt:
            return _("no")
        return _(
            "The response to a refresh may have been lost. "
            "The next attempt shows whether the connection still works."
        )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        status = getattr(kwargs.get("obj"), "status", Connection.Status.REVOKED)
        active, over = status == Connection.Status.ACTIVE, status == Connection.Status.REVOKED
        context |= {
            "may_refresh": active and self.has_refresh_permission(request),
            "may_disconnect": not over and self.has_disconnect_permission(request),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    # --- actions --------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    # Under ATOMIC_REQUESTS, a refresh would need a second database connection, and a revocation would
    # wait for the end of the request.
    changelist_view._non_atomic_requests = set(databases)  # type: ignore[attr-defined]

    @admin.action(description=gettext_lazy("Refresh selected connections"), permissions=["refresh"])
    def refresh_selected(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        hint = _("The command “manage.py oauth_refresh” refreshes any number.")
        if self._are_too_many(request, queryset, hint):
            return None
        return self._carry_out(refresh, request, queryset)

    @admin.action(description=gettext_lazy("Disconnect selected connections"), permissions=["disconnect"])
    def disconnect_selected(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Ask for confirmation. Then stop local use immediately, and revoke at the providers."""
        if self._are_too_many(request, queryset):
            return None
        if request.POST.get("confirmed"):
            return self._carry_out(disconnect, request, queryset)
        return self._confirmation(request, queryset)

    def _confirmation(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": _("Disconnect connections"),
            "connections": [
                {"row": row, "badge": display.status_badge(row), "owner": self.owner_link(row)}
                for row in queryset
            ],
            "opts": self.opts,
            "media": self.media,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "from_page": request.POST.get("from_page", ""),
        }
        request.current_app = self.admin_site.name
        template = "admin/oauth_connect/connection/disconnect_selected.html"
        return TemplateResponse(request, template, context)

    def _are_too_many(self, request: HttpRequest, queryset: Rows, hint: str = "") -> bool:
        count = queryset.count()
        if count <= MAX_SELECTED:
            return False
        text = ngettext(
            "%(count)d connection is selected, but only %(most)d can be done at a time. Nothing was done.",
            "%(count)d connections are selected, but only %(most)d can be done at a time. Nothing was done.",
            count,
        )
        message = text % {"count": count, "most": MAX_SELECTED}
        self.message_user(request, f"{message} {hint}".strip(), messages.ERROR)
        return True

    def _carry_out(self, act: Act, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        rows = list(queryset.defer(None))
        report = carry_out(act, rows, request.user, lambda row, text: self.log_change(request, row, text))
        for text, level in report.messages():
            self.message_user(request, text, level)
        if "from_page" in request.POST and len(rows) == 1:
            return HttpResponseRedirect(display.change_url(self.model, rows[0].pk, self.admin_site.name))
        return None


def _username_lookup() -> str:
    """Return the lookup of USERNAME_FIELD. If it is a foreign key, that of the column it refers to."""
    field: Any = get_user_model()._meta.get_field(get_user_model().USERNAME_FIELD)
    path = ["user", field.name]
    while field.is_relation:
        field = field.target_field
        path.append(field.name)
    return "__".join(path)


def _no_expiry(connection: Connection) -> str:
    return display.NOTHING if connection.status == Connection.Status.REVOKED else _("no known expiry")
