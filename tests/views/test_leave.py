"""The page between this site's form and the provider. tests/browser/ shows it in a browser."""

from __future__ import annotations

import html
import re

import pytest

from tests.support.visitor import state_of

pytestmark = pytest.mark.django_db

CONNECT = "/oauth/scripted/connect/"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


def test_a_browser_gets_a_page_that_leaves_by_itself_and_has_a_link(
    visitor, scripted, scripted_provider, issues
):
    response = visitor.post(CONNECT, headers=BROWSER)
    target = response["Refresh"].removeprefix("0;url=")

    assert response.status_code == 200
    assert target.startswith(f"{scripted.url}/authorize?")
    assert [html.unescape(link) for link in re.findall(r'href="(http[^"]+)"', response.content.decode())] == [
        target
    ]
    assert visitor.come_back(state=state_of(target), code="code").status_code == 302


@pytest.mark.parametrize("accept", ["*/*", "text/*", "application/xhtml+xml", "text/html;q=0, */*"])
def test_a_client_that_does_not_name_html_gets_a_redirect(accept, visitor, scripted, scripted_provider):
    response = visitor.post(CONNECT, headers={"Accept": accept})

    assert response.status_code == 302
    assert response["Location"].startswith(f"{scripted.url}/authorize?")


def test_what_the_settings_put_into_the_address_is_escaped(visitor, scripted_entry, configure):
    hostile = "\"><script>alert(1)</script>\r\nSet-Cookie: a=b; ';url=https://evil.test"
    configure(PROVIDERS={"scripted": {**scripted_entry, "authorize": {"params": {"x": hostile}}}})

    response = visitor.post(CONNECT, headers=BROWSER)

    assert b"<script" not in response.content
    assert not re.search(r"[\s\"'<>;]", response["Refresh"].removeprefix("0;url="))
    assert not response.cookies.get("a")
