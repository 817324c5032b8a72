"""The pages of the fake provider in a real browser, and what only a person's request may do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests

from oauth_connect.testing.server import FakeServer
from oauth_connect.testing.server.settings_entry import entry_for, provider_of
from tests.support.browser import Browser, Tab
from tests.testing.oauth_client import CALLBACK, TIMEOUT, Client, outcome, query_of

WIDTHS = (320, 1280)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    opened = browser.open_tab()
    yield opened
    assert opened.refused == []  # the pages keep their own Content-Security-Policy
    opened.close()


@pytest.fixture
def site() -> Iterator[str]:
    """The client's callback, on a port of its own."""

    class Callback(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<title>Back at the site</title>")

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Callback)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/callback/"
    server.shutdown()
    thread.join()
    server.server_close()


def page_of(client: Client, **changes: str | None) -> requests.Response:
    return requests.get(client.authorization_url(**changes), timeout=TIMEOUT)


def hidden(html: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([^"]*)"', html)
    assert found is not None, html
    return found[1]


# --- consent -----------------------------------------------------------------------------------------


def test_a_person_chooses_an_account_and_leaves_out_a_scope(
    fake: FakeServer, client: Client, tab: Tab, site: str
) -> None:
    def consent(page: Any) -> str:
        page.goto(client.authorization_url(redirect_uri=site, scope="read write"))
        page.get_by_label("write").uncheck()
        page.get_by_role("button", name="Continue as hubot").click()
        page.wait_for_url(f"{site}*")
        return str(page.url)

    code = query_of(tab(consent))["code"]
    tokens = client.exchange(code, redirect_uri=site).json()
    assert tokens["scope"] == "read"
    assert client.userinfo(tokens["access_token"]).json()["name"] == "hubot"


def test_a_person_denies(client: Client, tab: Tab, site: str) -> None:
    def deny(page: Any) -> str:
        page.goto(client.authorization_url(redirect_uri=site))
        page.get_by_role("button", name="Deny").click()
        page.wait_for_url(f"{site}*")
        return str(page.url)

    assert query_of(tab(deny))["error"] == "access_denied"


def test_the_page_is_escaped_and_not_kept(client: Client) -> None:
    page = page_of(client, scope="<script> ok")
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


def test_a_request_without_scopes_and_state_is_shown_and_answered(fake: FakeServer, client: Client) -> None:
    page = page_of(client, scope=None, state=None)
    assert "It asks for no scopes." in page.text
    form = {"request": hidden(page.text, "request"), "account": "octocat"}
    response = requests.post(f"{fake.url}/authorize", data=form, allow_redirects=False, timeout=TIMEOUT)
    callback = query_of(response.headers["Location"])
    assert sorted(callback) == ["code", "iss"]
    assert client.exchange(callback["code"]).json()["scope"] == ""


def test_a_page_decides_once(fake: FakeServer, client: Client) -> None:
    form = {"request": hidden(page_of(client).text, "request"), "account": "octocat"}
    first, second = [
        requests.post(f"{fake.url}/authorize", data=form, allow_redirects=False, timeout=TIMEOUT)
        for _ in range(2)
    ]
    assert first.headers["Location"].startswith(CALLBACK)
    assert second.status_code == 400
    assert "start there again" in second.text


def test_a_form_of_another_site_decides_nothing(fake: FakeServer, client: Client) -> None:
    page_of(client)
    forged = requests.post(
        f"{fake.url}/authorize", data={"request": "1", "account": "octocat"}, timeout=TIMEOUT
    )
    assert forged.status_code == 400


def test_an_account_that_the_page_did_not_offer_denies(fake: FakeServer, client: Client) -> None:
    form = {"request": hidden(page_of(client).text, "request"), "account": "mallory"}
    response = requests.post(f"{fake.url}/authorize", data=form, allow_redirects=False, timeout=TIMEOUT)
    assert query_of(response.headers["Location"])["error"] == "access_denied"


def test_a_response_by_form_is_posted_without_a_script(client: Client, fake: FakeServer) -> None:
    fake.consent("octocat")
    page = page_of(client, response_mode="form_post")
    assert f'<form method="post" action="{CALLBACK}">' in page.text
    assert hidden(page.text, "state") == "the state"
    assert client.exchange(hidden(page.text, "code")).status_code == 200


# --- devices -----------------------------------------------------------------------------------------


def test_a_person_enters_the_code_of_a_device(client: Client, tab: Tab) -> None:
    asked: dict[str, str | None] = {"client_id": client.client_id, "scope": "read"}
    started = client.post("device_authorization_endpoint", asked).json()

    def enter(page: Any) -> str:
        page.goto(started["verification_uri"])
        page.get_by_label("The code that the device shows").fill("WRONG")
        page.get_by_role("button", name="Continue").click()
        assert page.get_by_role("alert").inner_text().startswith("No device waits with this code")
        page.get_by_label("The code that the device shows").fill(started["user_code"].lower())
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Continue as octocat").click()
        return str(page.locator("main").inner_text())

    assert "The device has access." in tab(enter)
    grant = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": started["device_code"],
    }
    assert client.post("token_endpoint", dict(grant)).json()["scope"] == "read"


# --- the console -------------------------------------------------------------------------------------


def test_the_console_expires_ends_and_goes_down(fake: FakeServer, client: Client, tab: Tab) -> None:
    tokens, other = client.tokens(), client.tokens()

    def click(button: str) -> str:
        def act(page: Any) -> str:
            page.goto(f"{fake.url}/")
            page.get_by_role("button", name=button, exact=True).last.click()
            page.wait_for_url(f"{fake.url}/")
            return str(page.locator("main").inner_text())

        return tab(act)

    name = f"octocat at {client.client_id}"
    assert "expired" in click(f"Expire the access token of {name}")
    assert not fake.holds(tokens["access_token"])
    assert fake.holds(tokens["refresh_token"])
    click(f"End the grant of {name}")
    assert not fake.holds(tokens["refresh_token"])
    assert fake.holds(other["access_token"])
    assert "It is down" in click("Go down")
    assert client.refresh(other["refresh_token"]).status_code == 503
    assert "It is up" in click("Come back")
    assert client.refresh(other["refresh_token"]).status_code == 200


def test_the_console_shows_no_token(fake: FakeServer, client: Client) -> None:
    tokens = client.tokens()
    console = requests.get(f"{fake.url}/", timeout=TIMEOUT).text
    assert "octocat" in console
    assert [one for one in tokens.values() if str(one).startswith("fake-") and str(one) in console] == []


def test_the_console_says_that_a_token_does_not_expire(fake: FakeServer) -> None:
    fake.serve(provider_of("intercom", entry_for(fake, "intercom")))
    fake.issue("octocat")
    assert "does not expire" in requests.get(f"{fake.url}/", timeout=TIMEOUT).text


@pytest.mark.parametrize("action", ["expire", "end", "down"])
def test_the_console_refuses_a_form_of_another_site(fake: FakeServer, client: Client, action: str) -> None:
    token = client.tokens()["access_token"]
    for form_token in ("", "wrong"):
        form = {"action": action, "grant": "1", "form_token": form_token}
        assert requests.post(f"{fake.url}/console", data=form, timeout=TIMEOUT).status_code == 403
    assert fake.holds(token)
    assert client.userinfo(token).status_code == 200


@pytest.mark.parametrize("grant", ["", "99", "x", "²"])
def test_a_grant_that_is_not_there_changes_nothing(fake: FakeServer, client: Client, grant: str) -> None:
    token = client.tokens()["access_token"]
    form_token = hidden(requests.get(f"{fake.url}/", timeout=TIMEOUT).text, "form_token")
    form = {"action": "end", "grant": grant, "form_token": form_token}
    assert requests.post(f"{fake.url}/console", data=form, timeout=TIMEOUT).status_code == 200
    assert fake.holds(token)


@pytest.mark.parametrize("path", ["/", "/authorize", "/device"])
def test_a_page_answers_under_its_own_address_only(fake: FakeServer, path: str) -> None:
    """Else a page of another site, whose name leads to this machine, could read and press the buttons."""
    response = requests.get(f"{fake.url}{path}", headers={"Host": "evil.example"}, timeout=TIMEOUT)
    assert outcome(response) == (421, "wrong_host")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_window(
    fake: FakeServer,
    client: Client,
    browser: Browser,
    width: int,
) -> None:
    client.tokens(scope="a-scope-with-a-long-name" * 5)
    tab = browser.open_tab(viewport={"width": width, "height": 800})
    pages = ("/", "/device?user_code=X", client.authorization_url(scope="long" * 40).removeprefix(fake.url))
    for path in pages:
        tab(lambda page, path=path: page.goto(f"{fake.url}{path}"))
        assert tab(lambda page: page.evaluate("document.documentElement.scrollWidth")) <= width, path
    tab(lambda page: page.goto(f"{fake.url}/"))
    end = tab(lambda page: page.get_by_role("button", name="End the grant").bounding_box())
    assert end["x"] + end["width"] <= width  # in sight, without scrolling the table
    tab.close()
