"""The filters of the list of connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from oauth_connect.models import Connection
from oauth_connect.models.row import RECONNECT_SOON

Rows = QuerySet[Connection]
PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


class ExpiringFilter(admin.SimpleListFilter):
    """Active connections whose token expires, or which must be connected again."""

    title = _("expiring")
    parameter_name = "expiring"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("expired", _("token has expired")),
            ("hour", _("within an hour")),
            ("day", _("within a day")),
            ("week", _("within a week")),
            ("reconnect", _("must be connected again within 30 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        wanted, now = self.value(), datetime.now(UTC)
        active = queryset.filter(status=Connection.Status.ACTIVE)
        if wanted == "expired":
            return active.filter(expires_at__lte=now)
        if wanted == "reconnect":
            return active.filter(reconnect_before__lte=now + RECONNECT_SOON)
        if wanted in PERIODS:
            return active.filter(expires_at__gt=now, expires_at__lte=now + PERIODS[wanted])
        return queryset


class FailingFilter(admin.SimpleListFilter):
    """Connections whose refreshes have failed since the last success."""

    title = _("failing")
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("yes")), ("no", _("no"))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        if self.value() == "yes":
            return queryset.filter(failures__gt=0)
        if self.value() == "no":
            return queryset.filter(failures=0)
        return queryset
