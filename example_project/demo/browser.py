"""A simple browser for the demo: cookies, redirects, links and forms. No JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import requests

TIMEOUT = 30
HIDDEN = {"head", "script", "style"}


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, dict[str, str]] = field(default_factory=dict)
    """The fields that each button adds, by the button's text."""


@dataclass
class Link:
    href: str
    text: str = ""


class PageParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[Link] = []
        self.words: list[str] = []
        self._hidden = 0
        self._link: Link | None = None
        self._form: Form | None = None
        self._button: tuple[dict[str, str], list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag in HIDDEN:
            self._hidden += 1
        elif tag == "a":
            self._link = Link(attributes.get("href", ""))
            self.links.append(self._link)
        elif tag == "form":
            method = attributes.get("method", "get").lower()
            self._form = Form(attributes.get("action", ""), method)
            self.forms.append(self._form)
        elif self._form is not None:
            self._control(self._form, tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag in HIDDEN:
            self._hidden -= 1
        elif tag == "a":
            self._link = None
        elif tag == "form":
            self._form = None
        elif tag == "button":
            self._end_button()

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        self.words += data.split()
        if self._link is not None:
            self._link.text = " ".join([*self._link.text.split(), *data.split()])
        if self._button is not None:
            self._button[1].extend(data.split())

    def _control(self, form: Form, tag: str, attributes: dict[str, str]) -> None:
        name, value = attributes.get("name", ""), attributes.get("value", "")
        added = {name: value} if name else {}
        if tag == "button":
            self._button = (added, [])
        elif tag == "input" and attributes.get("type") == "submit":
            form.buttons[value] = added
        elif tag == "input":
            form.fields.update(added)

    def _end_button(self) -> None:
        if self._form is not None and self._button is not None:
            added, words = self._button
            self._form.buttons[" ".join(words)] = added
        self._button = None


class Page:
    """The page that a visitor sees after all redirects."""

    def __init__(self, response: requests.Response) -> None:
        self.url = response.url
        self.status = response.status_code
        self.visited = [each.url for each in (*response.history, response)]
        self._response = response
        parser = PageParser()
        if "html" in response.headers.get("Content-Type", ""):
            parser.feed(response.text)
        self.forms, self.links, self.text = parser.forms, parser.links, " ".join(parser.words)

    def __str__(self) -> str:
        return f"{self.status} {self.url.partition('?')[0]}: {self.text[:300] or '(no text)'}"

    def __contains__(self, words: str) -> bool:
        return words in self.text

    def json(self) -> Any:
        return self._response.json()

    def link(self, text: str) -> Link | None:
        return next((link for link in self.links if text in link.text), None)

    def links_to(self, ending: str) -> Iterator[Link]:
        return (link for link in self.links if link.href.partition("?")[0].endswith(ending))

    def form_with(self, button: str) -> Form | None:
        """Return the first form that has a button with this text."""
        return next((form for form in self.forms if button in form.buttons), None)


class Browser:
    def __init__(self) -> None:
        self._session = requests.Session()
        # A proxy from the environment could not reach the loopback address of this machine.
        self._session.trust_env = False

    def copy(self) -> Browser:
        """Return another window of the same visitor, which another thread may use."""
        other = Browser()
        other._session.cookies.update(self._session.cookies)
        return other

    def get(self, url: str) -> Page:
        return Page(self._session.get(url, timeout=TIMEOUT))

    def follow(self, page: Page, link: Link) -> Page:
        return self.get(urljoin(page.url, link.href))

    def submit(self, page: Page, form: Form, button: str = "", **filled: str) -> Page:
        data = {**form.fields, **form.buttons.get(button, {}), **filled}
        url = urljoin(page.url, form.action) if form.action else page.url
        if form.method == "post":
            return Page(self._session.post(url, data=data, timeout=TIMEOUT))
        return Page(self._session.get(url, params=data, timeout=TIMEOUT))
