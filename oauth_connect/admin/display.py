"""How things are shown: status badges, moments in human time, people."""

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
    """Return a badge; ``kind`` (good, warning, bad, over) is a colour, and the text says it all without."""
    return format_html('<span class="oauth-badge oauth-{}">{}</span>', kind, text)


def status_badge(connection: Connection) -> str:
    kind = BADGES.get(Connection.Status(connection.status), "over")
    return badge(kind, connection.get_status_display())


def provider(connection: Connection) -> str:
    """Return the provider's name in the settings, and say where it has left them."""
    try:
        conf.declared_provider(connection.provider, connection.owner)
    except UnknownProvider:
        told = _("No longer offered by this site")
        return format_html('{} <span class="oauth-quiet">{}</span>', connection.provider, told)
    except ImproperlyConfigured:  # there, and wrong: the system checks tell
        pass
    return connection.provider


def relative(moment: datetime) -> str:
    """Say how far away a moment is, in its largest unit."""
    now = datetime.now(UTC)
    if abs(moment - now) < timedelta(minutes=1):
        return _("in less than a minute") if moment > now else _("just now")
    if moment > now:
        return _("in %(time)s") % {"time": timeuntil(moment, now, time_strings=_UNITS, depth=1)}
    return _("%(time)s ago") % {"time": timesince(moment, now, time_strings=_UNITS, depth=1)}


def exact(moment: datetime) -> str:
    return date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def moment_in_list(moment: datetime | None, otherwise: str = NOTHING) -> str:
    """Return human time; a pointer that rests on it sees the exact one."""
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
    """Return a moment after which the owner is needed, with a warning once it is near."""
    if moment is None:
        return NOTHING
    left = moment - datetime.now(UTC)
    if left > RECONNECT_SOON:
        return moment_in_full(moment)
    warning = badge("bad", _("has passed")) if left < timedelta(0) else badge("warning", _("soon"))
    return format_html("{} {}", moment_in_full(moment), warning)


def change_url(model: type[Model], pk: Any, site_name: str) -> str:
    """Return the path of a row's page; empty where this admin does not know its model."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    try:
        return reverse(name, args=[quote(pk)], current_app=site_name)
    except NoReverseMatch:
        return ""


def link(url: str, text: object) -> str:
    return format_html('<a href="{}">{}</a>', url, text) if url else str(text)


def owner(connection: Connection, site_name: str) -> str:
    """Return the owner: a link to the user where it is one, else its key."""
    user: Any = connection.user
    if user is None:
        return connection.owner
    return link(change_url(type(user), user.pk, site_name), user.get_username())
