"""A walk of staff through the example site's own admin: ``python -m tests.admin.clicks``.

It runs in a process of its own, with the example site's settings, and reads a token response from
standard input. Each line that it prints is a page that was as it should be.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import django
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from example_project.logins import DESK
from tests.admin.pages import path, text

INPUT = re.compile(r'<input type="(?:hidden|submit)" name="(\w+)" value="([^"]*)">')


class Clicks:
    def __init__(self) -> None:
        self.client = Client(SERVER_NAME="127.0.0.1", enforce_csrf_checks=True)

    def opened(self, url: str, *expected: str, **query: str) -> Any:
        return self._seen(self.client.get(url, query, follow=True), url, expected)

    def sent(self, url: str, data: dict[str, str], *expected: str) -> Any:
        token = {"csrfmiddlewaretoken": self.client.cookies["desk_csrf"].value}
        return self._seen(self.client.post(url, {**data, **token}, follow=True), url, expected)

    def pressed(self, page: Any, action: str, *expected: str) -> Any:
        """Press the button of a form whose hidden field names this action."""
        forms = re.findall(r"<form .*?</form>", page.content.decode(), re.DOTALL)
        (fields,) = (dict(INPUT.findall(form)) for form in forms if f'value="{action}"' in form)
        return self.sent(path("changelist"), fields, *expected)

    def _seen(self, page: Any, url: str, expected: tuple[str, ...]) -> Any:
        assert page.status_code == 200, (url, page.status_code)
        for words in expected:
            assert words in text(page), (url, words, text(page))
        sys.stdout.write(f"{url}\n")
        return page


def walk(connection: Any) -> None:
    clicks = Clicks()
    clicks.opened("/admin/", "Log in")
    admin = {"username": "admin", "password": DESK.password, "next": "/admin/"}
    clicks.sent("/admin/login/", admin, "OAuth connections", "Connections", "Provider states")
    clicks.opened(path("changelist"), "ada", "alice", "active", "in 4 minutes")
    clicks.opened(path("changelist"), "1 connection", q="alice", status__exact="active", expiring="hour")
    page = clicks.opened(path("change", connection.pk), "ada", "repositories", "in 4 minutes")
    page = clicks.pressed(page, "refresh_selected", "Refreshed (1): codeyard: ada.")
    page = clicks.pressed(page, "disconnect_selected", "The site stops using these accounts immediately")
    clicks.pressed(page, "disconnect_selected", "Disconnected (1): codeyard: ada.", "disconnected")
    clicks.opened(path("history", connection.pk), "Refreshed", "Disconnected")
    clicks.opened(path("changelist", model="connectionevent"), "3 connection events", "revoked by staff")
    for model in ("pendingrevocation", "providerstate"):
        clicks.opened(path("changelist", model=model), "0 ")


def main() -> None:
    django.setup()
    from oauth_connect.models import Connection  # noqa: PLC0415  (waits for django.setup)

    call_command("migrate", verbosity=0)
    connection = Connection.objects.store(
        owner=get_user_model().objects.get_by_natural_key("alice"),
        provider="codeyard",
        account_id="1",
        account_label="ada",
        token_response=json.load(sys.stdin),
    )
    walk(connection)
    connection.refresh_from_db()
    assert (connection.status, connection.version) == ("revoked", 2)


if __name__ == "__main__":
    main()
