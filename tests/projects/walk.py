"""What a developer and a user do in a project: checks, migrations, connecting, calling, disconnecting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import Client

from oauth_connect.models import Connection
from tests.projects.browser import SITE, Browser, Page, authorization_url, mounted
from tests.projects.rows import CONTENT_SECURITY_POLICY, MOUNTS

ANSWER = {"repositories": ["engine"]}


def through(row: str) -> None:
    try:
        set_up()
        Walk(row).go()
    finally:
        connections.close_all()


def set_up() -> None:
    call_command("migrate", verbosity=0)
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    call_command("check", fail_level="WARNING", databases=["default"], verbosity=0)


class Walk:
    """One user's visit. Staff, so that the admin opens."""

    def __init__(self, row: str) -> None:
        self.row = row
        mount = MOUNTS.get(row, "")
        self.root = mount + ("/de" if row == "languages" else "")
        application = mounted(get_wsgi_application(), mount)
        self.visitor = Browser(httpx.WSGITransport(application))
        self.browser = Browser(httpx.WSGITransport(application))
        users = get_user_model()
        named = {users.USERNAME_FIELD: "ada@people.example"}
        self.user: Any = users.objects.create_user(**named, is_staff=True, is_superuser=True)
        self.sign_in()

    def sign_in(self) -> None:
        client = Client()
        client.force_login(self.user)
        for name, morsel in client.cookies.items():
            self.browser.client.cookies.set(name, morsel.value, domain="app.example")

    def path(self, rest: str) -> str:
        return f"{self.root}/{rest}"

    def go(self) -> None:
        self.a_visitor_is_asked_to_sign_in()
        self.a_page_sends_the_user_to_connect_and_back()
        self.pages_call_the_api()
        self.the_admin_finds_the_connection()
        self.the_token_is_refreshed()
        MORE.get(self.row, lambda walk: None)(self)
        self.the_user_disconnects()

    def a_visitor_is_asked_to_sign_in(self) -> None:
        for page in ("connections/", "page/", "async-page/", "connections/inhouse/connect/"):
            where = self.visitor.get(self.path(page)).headers["Location"]
            query = urlencode({"next": self.path(page)}, safe="/")
            assert where == f"{self.path('accounts/login/')}?{query}", where

    def a_page_sends_the_user_to_connect_and_back(self) -> None:
        asked = self.browser.follow(self.browser.get(self.path("page/")))
        assert asked.url.path == self.path("connections/inhouse/connect/")
        assert asked.url.params["next"] == self.path("page/")
        back = self.browser.follow(self.come_back(self.browser.submit(str(asked.url))))
        assert back.url.path == self.path("page/")
        assert back.json() == ANSWER

    def come_back(self, response: httpx.Response) -> httpx.Response:
        """Return the response to the callback, after the user's consent at the provider."""
        [state], [redirect_uri] = map(query_of(authorization_url(response)).get, ("state", "redirect_uri"))
        assert redirect_uri.startswith(f"{SITE}{MOUNTS.get(self.row, '')}/")
        return self.browser.get(f"{redirect_uri}?{urlencode({'state': state, 'code': 'code'})}")

    def pages_call_the_api(self) -> None:
        for page in ("page/", "async-page/"):
            assert self.browser.get(self.path(page)).json() == ANSWER

    def the_admin_finds_the_connection(self) -> None:
        found = self.browser.get(self.path("admin/oauth_connect/connection/?q=ada@people"))
        assert found.status_code == 200
        assert "octo" in found.text

    def the_token_is_refreshed(self) -> None:
        connection = Connection.objects.get()
        assert connection.user == self.user
        connection.refresh()
        assert Connection.objects.get().version == 1

    def the_user_disconnects(self) -> None:
        listed = self.browser.get(self.path("connections/"))
        assert "octo" in listed.text
        done = self.browser.follow(self.browser.submit(Page(listed.text).link_to("/disconnect/")))
        assert done.url.path == self.path("connections/")
        assert Connection.objects.get().status == Connection.Status.REVOKED
        again = self.browser.get(self.path("page/"))
        assert urlsplit(again.headers["Location"]).path == self.path("connections/inhouse/connect/")


def query_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


def pages_obey_the_policy(walk: Walk) -> None:
    walk.browser.get(walk.path("connections/"))
    for response in walk.browser.visited:
        assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        if "/connections/" in response.url.path:
            assert Page(response.text).blocked == []


def no_code_is_put_into_the_address_of_the_login(walk: Walk) -> None:
    callback = walk.visitor.get(walk.path("connections/inhouse/callback/?state=a&code=b"))
    assert "code" not in callback.headers.get("Location", "")


def rest_views_call_the_api(walk: Walk) -> None:
    gates = {"class": 302, "method": 403, "function": 403}
    for name, status in gates.items():
        path = walk.path(f"rest/{name}/")
        assert walk.visitor.get(path, Accept="*/*").status_code == status
        assert walk.browser.get(path, Accept="*/*").json() == ANSWER
    by_header = {"Accept": "*/*", "X-User": walk.user.get_username()}
    assert walk.visitor.get(walk.path("rest/method/"), **by_header).json() == ANSWER
    serialize_without_a_token()
    Connection._base_manager.update(status=Connection.Status.REAUTHORIZATION_REQUIRED)
    for name in gates:
        where = walk.browser.get(walk.path(f"rest/{name}/"), Accept="*/*").headers["Location"]
        assert urlsplit(where).path == walk.path("connections/inhouse/connect/")


def serialize_without_a_token() -> None:
    from tests.projects.rest_views import ConnectionSerializer

    shown = ConnectionSerializer(Connection.objects.get()).data
    assert shown["sealed_token"] == "<sealed>"
    assert shown["account_label"] == "octo"
    change = ConnectionSerializer(Connection.objects.get(), {"status": "revoked"}, partial=True)
    assert change.is_valid()
    assert change.save().status == Connection.Status.ACTIVE


MORE: dict[str, Callable[[Walk], None]] = {
    "content-security-policy": pages_obey_the_policy,
    "login-required": no_code_is_put_into_the_address_of_the_login,
    "rest-framework": rest_views_call_the_api,
}
