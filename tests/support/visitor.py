"""A visitor's browser: Django's test client for this site, and requests to Codeyard's pages."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test import Client, RequestFactory
from django.urls import reverse

from tests.servers.codeyard import CALLBACK

CODEYARD_PASSWORD = "codeyard-demo"


class Visitor:
    """A visitor of the site, over https as behind ``BASE_URL``. Signed in unless ``user`` is None."""

    def __init__(self, user: AbstractBaseUser | None = None, *, cookies: Any = None) -> None:
        self.client = Client()
        if cookies is not None:
            self.client.cookies.update(cookies)
        if user is not None:
            self.client.force_login(user)

    def get(self, path: str, query: Any = None, **headers: Any) -> HttpResponseBase:
        return self.client.get(path, query, secure=True, **headers)

    def post(self, path: str, data: Any = None, **headers: Any) -> HttpResponseBase:
        return self.client.post(path, data, secure=True, **headers)

    def start(self, provider: str = "scripted", *, data: Any = None, **query: Any) -> str:
        """Submit the connect page, and return the URL at the provider."""
        path = reverse("oauth_connect:connect", kwargs={"provider": provider}, query=query or None)
        return self.follow(path, data)

    def follow(self, connect_path: str, data: Any = None) -> str:
        response = self.post(connect_path, data)
        assert response.status_code == 302, response.content
        assert "state=" in response["Location"]
        return response["Location"]

    def come_back(self, provider: str = "scripted", **query: Any) -> HttpResponseBase:
        """Request the callback, as a browser does after the provider's redirect."""
        return self.get(callback_path(provider), query)

    def connect(self, provider: str = "scripted", **query: Any) -> HttpResponseBase:
        """Start a flow, and immediately come back with a code."""
        return self.come_back(provider, state=state_of(self.start(provider, **query)), code="code")

    def request(self) -> HttpRequest:
        """Return a request of this visitor, to call a flow without a view."""
        request = RequestFactory().get("/", secure=True)
        request.session = self.client.session
        return request

    @property
    def session(self) -> SessionBase:
        return self.client.session


def callback_path(provider: str) -> str:
    return reverse("oauth_connect:callback", kwargs={"provider": provider})


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def state_of(authorization_url: str) -> str:
    return query_of(authorization_url)["state"]


class _Form(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "input" and attributes.get("name"):
            self.fields[str(attributes["name"])] = attributes.get("value") or ""


class _CodeyardPages(requests.Session):
    """Follows redirects at Codeyard. Stops at the redirect to the site."""

    def get_redirect_target(self, response: requests.Response) -> str | None:
        target = super().get_redirect_target(response)
        return None if target is not None and target.startswith(CALLBACK) else target


def answer_of_codeyard(
    authorization_url: str, *, username: str = "ada", allow: bool = True
) -> dict[str, str]:
    """Sign in at Codeyard, allow or deny access, and return the query of the redirect to the site."""
    with _CodeyardPages() as pages:
        pages.trust_env = False
        login = pages.get(authorization_url, timeout=60)
        signed_in = {"username": username, "password": CODEYARD_PASSWORD}
        consent = _submit(pages, login, {**signed_in, "next": query_of(login.url)["next"]})
        answer = _submit(pages, consent, {"allow": "Authorize"} if allow else {})
    return query_of(answer.headers["Location"])


def _submit(pages: requests.Session, page: requests.Response, added: dict[str, str]) -> requests.Response:
    fields = {name: value for name, value in _Form(page.text).fields.items() if name != "allow"}
    return pages.post(urljoin(page.url, page.url), {**fields, **added}, timeout=60)


MakeVisitor = Callable[..., Visitor]
