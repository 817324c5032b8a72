"""A browser at oidc-provider's pages: it signs in, consents, and stops where the site gets it back."""

from __future__ import annotations

from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import requests

from tests.support.visitor import query_of


class Form(HTMLParser):
    """The first form of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "form" and self.action is None:
            self.action = attributes.get("action") or ""
        elif tag == "input" and attributes.get("name"):
            self.fields[str(attributes["name"])] = attributes.get("value") or ""


class Browser(requests.Session):
    """Follows redirects at the server and none that leads elsewhere."""

    def __init__(self, server: str, login: str = "ada") -> None:
        super().__init__()
        self.trust_env = False
        self.server = server
        self.login = login

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get_redirect_target(self, response: requests.Response) -> str | None:
        target = super().get_redirect_target(response)
        leads_away = target is not None and not urljoin(response.url, target).startswith(self.server)
        return None if leads_away else target

    def through(self, page: requests.Response, **typed: str) -> requests.Response:
        """Fill in and send the forms that come, one after the other, until there is none."""
        while (form := Form(page.text)).action is not None and page.status_code == 200:
            known = {"login": self.login, "password": "any", **typed}
            fields = {name: known.get(name, value) for name, value in form.fields.items()}
            page = self.post(urljoin(page.url, form.action), data=fields, timeout=60)
        return page

    def authorize(self, authorization_url: str) -> dict[str, str]:
        """Return the query with which the site gets the browser back."""
        landed = self.through(self.get(authorization_url, timeout=60))
        return query_of(landed.headers["Location"])
