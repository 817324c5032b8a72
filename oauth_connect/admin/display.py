"""Formats values for the admin: status badges, times, owners."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.admin.utils import quote
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import npgettext_lazy

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.models import Connection
from oauth_connect.models.row import RECONNECT_SOON

NOTHING = "-"

BADGES = {
    Connection.Status.ACTIVE: "good",
    Connection.Status.REAUTHORIZATION_REQUIRED: "bad",
    Connection.Status.REVOKED: "over",
}

_COUNTED = "after 'in', and before 'ago'"
_UNITS: dict[str, Any] = {
    "year": npgettext_lazy(_COUNTED, "%(num)d year", "%(num)d years", "num"),
    "month": npgettext_lazy(_COUNTED, "%(num)d month", "%(num)d months", "num"),
    "week": npgettext_lazy(_COUNTED, "%(num)d week", "%(num)d weeks", "num"),
    "day": npgettext_lazy(_COUNTED, "%(num)d day", "%(num)d days", "num"),
    "hour": npgettext_lazy(_COUNTED, "%(num)d hour", "%(num)d hours", "num"),
    "minute": npgettext_lazy(_COUNTED, "%(num)d minute", "%(num)d minutes", "num"),
}


def badge(kind: str, text: object) -> str:
    """Return a badge. ``kind`` (good, warning, bad, over) is only a colour; the text has the meaning."""
    return format_html('<span class="oauth-badge oauth-{}">{}</span>', kind, text)


def status_badge(connection: Connection) -> str:
    kind = BADGES.get(Connection.Status(connection.status), "over")
    return badge(kind, connection.get_status_display())


def provider(connection: Connection) -> str:
    """Return the provider's name, with a note if the settings no longer contain it."""
    try:
        conf.declared_provider(connection.provider, connection.owner)
    except UnknownProvider:
        note = _("No longer offered by this site")
        return format_html('{} <span class="oauth-quiet">{}</span>', connection.provider, note)
    except ImproperlyConfigured:  # the system checks report a wrong entry
        pass
    return connection.provider


def account_id(connection: Connection) -> str:
    """Return the account's id, with a note if only the browser has named it."""
    try:
        known = conf.declared_provider(connection.provider, connection.owner)
    except ImproperlyConfigured:
        return connection.account_id
    if not connection.account_id or known.proves(known.identity_source):
        return connection.account_id
    note = _("From the browser; the provider has not confirmed it")
    return format_html('{} <span class="oauth-quiet">{}</span>', connection.account_id, note)


def relative(moment: datetime) -> str:
    """Return the time to or since a moment, in its largest unit."""
    now = datetime.now(UTC)
    if abs(moment - now) < timedelta(minutes=1):
        return _("in less than a minute") if moment > now else _("just now")
    if moment > now:
        return _("in %(time)s") % {"time": timeuntil(moment, now, time_strings=_UNITS, depth=1)}
    return _("%(time)s ago") % {"time": timesince(moment, now, time_strings=_UNITS, depth=1)}


def exact(moment: datetime) -> str:
    return date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def moment_in_list(moment: datetime | None, otherwise: str = NOTHING) -> str:
    """Return a relative time, with the exact time as a tooltip."""
    if moment is None:
        return otherwise
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact(moment), relative(moment)
    )


def moment_in_full(moment: datetime | None, otherwise: str = NOTHING) -> str:
    if moment is None:
        return otherwise
    return format_html(
        '<time datetime="{}">{} ({})</time>', moment.isoformat(), relative(moment), exact(moment)
    )


def deadline(moment: datetime | None) -> str:
    """Return the time before which the owner must connect again, with a warning if it is near or past."""
    if moment is None:
        return NOTHING
    left = moment - datetime.now(UTC)
    if left > RECONNECT_SOON:
        return moment_in_full(moment)
    warning = badge("bad", _("has passed")) if left < timedelta(0) else badge("warning", _("soon"))
    return format_html("{} {}", moment_in_full(moment), warning)


def change_url(model: type[Model], pk: Any, site_name: str) -> str:
    """Return the path of a row's page. Empty if its model is not registered in this admin."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    try:
        return reverse(name, args=[quote(pk)], current_app=site_name)
    except NoReverseMatch:
        return ""


def link(url: str, text: object) -> str:
    return format_html('<a href="{}">{}</a>', url, text) if url else str(text)


def owner(connection: Connection, site_name: str) -> str:
    """Return the owner: a link if it is a user, otherwise its key."""
    user: Any = connection.user
    if user is None:
        return connection.owner
    return link(change_url(type(user), user.pk, site_name), user.get_username())
