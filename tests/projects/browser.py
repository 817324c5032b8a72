"""A browser in front of a project's WSGI or ASGI application: cookies, links, forms with their CSRF token."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

SITE = "https://app.example"


class Page(HTMLParser):
    """The links of a page, its last form, and what a strict Content-Security-Policy would block."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.form: dict[str, str] = {}
        self.blocked: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(values.get("href", ""))
        if tag == "form" and values.get("method", "").lower() == "post":
            self.form = {}
        if tag == "input" and "name" in values:
            self.form[values["name"]] = values.get("value", "")
        if tag == "style" or (tag == "script" and "src" not in values):
            self.blocked.append(f"<{tag}>")
        self.blocked += [name for name in values if name == "style" or name.startswith("on")]

    def link_to(self, ending: str) -> str:
        """Return the one link whose path has this ending."""
        [found] = {link for link in self.links if urlsplit(link).path.endswith(ending)}
        return found


class Browser:
    """Sends requests to the site, and follows redirects that stay there."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        accepted = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        self.client = httpx.Client(transport=transport, base_url=SITE, headers=accepted)
        self.visited: list[httpx.Response] = []

    def get(self, url: str, **headers: str) -> httpx.Response:
        return self._visit("GET", url, headers=headers)

    def post(self, url: str, data: dict[str, str]) -> httpx.Response:
        return self._visit("POST", url, data=data, headers={"Referer": urljoin(SITE, url)})

    def submit(self, url: str) -> httpx.Response:
        """Open a page, and submit its form to the same address."""
        return self.post(url, Page(self.get(url).text).form)

    def follow(self, response: httpx.Response) -> httpx.Response:
        """Follow redirects of the site."""
        while response.is_redirect:
            response = self.get(urljoin(str(response.url), response.headers["Location"]))
        return response

    def _visit(self, method: str, url: str, **options: Any) -> httpx.Response:
        response = self.client.request(method, url, **options)
        self.visited.append(response)
        return response


def authorization_url(response: httpx.Response) -> str:
    """Return the provider's URL to which a response leads, by a redirect or by a link."""
    found = [response.headers.get("Location", ""), *Page(response.text).links]
    [url] = {one for one in found if "state" in parse_qs(urlsplit(one).query)}
    return url


def mounted(application: Callable[..., Any], prefix: str) -> Callable[..., Any]:
    """Return the application as a web server has it that serves it under a path."""

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        assert path.startswith(f"{prefix}/"), path
        return application(
            {**environ, "SCRIPT_NAME": prefix, "PATH_INFO": path.removeprefix(prefix)}, start_response
        )

    return serve
