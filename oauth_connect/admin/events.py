"""The last events of a connection, for its page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.db import router
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from oauth_connect.admin import display
from oauth_connect.admin.error_texts import shown_code
from oauth_connect.models import Connection, ConnectionEvent

SHOWN = 10


def may_view(request: HttpRequest) -> bool:
    return request.user.has_perm("oauth_connect.view_connectionevent")


def last_events(connection: Connection, site_name: str) -> str:
    """Return a table of the newest events and a link to all of them. Uses one query."""
    alias = router.db_for_write(ConnectionEvent, instance=connection)  # also right after an action
    events = ConnectionEvent.objects.using(alias).filter(connection_id=connection.pk)
    newest = events.select_related("actor").order_by("-created_at", "-pk")[:SHOWN]
    rows = format_html_join("", "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", map(_cells, newest))
    if not rows:
        return display.NOTHING
    head = (_("when"), _("action"), _("who"), _("error"))
    heads = format_html_join("", '<th scope="col">{}</th>', ((text,) for text in head))
    return format_html(
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table><p>{}</p>",
        heads,
        rows,
        display.link(_list_url(connection, site_name), _("All events of this connection")),
    )


def _cells(event: ConnectionEvent) -> tuple[str, str, str, str]:
    actor: Any = event.actor
    return (
        display.moment_in_list(event.created_at),
        event.get_action_display(),
        display.NOTHING if actor is None else actor.get_username(),
        shown_code(event.error) or display.NOTHING,
    )


def _list_url(connection: Connection, site_name: str) -> str:
    """Return the path of the list of these events. Empty if their model is not registered in this admin."""
    try:
        path = reverse("admin:oauth_connect_connectionevent_changelist", current_app=site_name)
    except NoReverseMatch:
        return ""
    return f"{path}?{urlencode({'connection_id__exact': connection.pk})}"
