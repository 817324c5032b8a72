"""The pages in a real browser, under a strict Content-Security-Policy, with a provider on another site."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.decorators import login_required
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.http import HttpResponse
from django.test.testcases import LiveServerThread
from django.urls import include, path

from oauth_connect.flows import connection_for
from oauth_connect.models import Connection
from oauth_connect.views import connection_required
from tests.servers.scripted import Answer, ScriptedServer

POLICY = "default-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
WIDTHS = (320, 1280)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.once,
    pytest.mark.urls(__name__),
]


def strict_policy(get_response):
    """A middleware."""

    def respond(request):
        response = get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return respond


@login_required
@connection_required("scripted")
def report(request):
    account = connection_for(request.user, "scripted").account_label
    return HttpResponse(f"<title>Report</title><h1>Report of {account}</h1>")


urlpatterns = [path("report/", report), path("oauth/", include("oauth_connect.urls"))]


class ProviderWithPages(ScriptedServer):
    """Shows a page of its own at each path that ends with /authorize."""

    def take(self, request):
        if not request.path.endswith("/authorize"):
            return super().take(request)
        super().take(request)
        back = f"{request.query['redirect_uri']}?state={request.query['state']}"
        links = f'<a href="{back}&code=code">Allow</a> <a href="{back}&error=access_denied">Deny</a>'
        page = f"<!doctype html><title>The provider</title>{links}"
        return Answer(body=page.encode(), headers={"Content-Type": "text/html"})


@pytest.fixture
def provider():
    server = ProviderWithPages()
    tokens = {"access_token": "access-1", "refresh_token": "refresh-1", "token_type": "Bearer"}
    server.on("/token", Answer(body=tokens))
    server.on("/user", Answer(body={"id": 1, "login": "ada"}))
    yield server
    server.close()


@pytest.fixture
def entry(provider):
    return {
        "name": "Codeyard",
        "client_id": "client",
        "client_secret": "secret",
        "authorization_endpoint": f"{provider.url}/authorize",
        "token_endpoint": f"{provider.url}/token",
        "userinfo_endpoint": f"{provider.url}/user",
        "api_base_url": f"{provider.url}/api/",
    }


@pytest.fixture
def origin(settings, configure, entry):
    """The site, on another host than the provider: localhost."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.strict_policy"]
    server = LiveServerThread("localhost", StaticFilesHandler)
    server.start()
    server.is_ready.wait()
    origin = f"http://localhost:{server.port}"
    configure(BASE_URL=origin, PROVIDERS={"scripted": entry})
    yield origin
    server.terminate()


@pytest.fixture
def open_tab(browser, origin, visitor):
    """Open a tab in which the user is signed in."""
    tabs = []
    cookie = {"name": "sessionid", "value": visitor.client.cookies["sessionid"].value, "url": origin}

    def open_tab(width=1280):
        tab = browser.open_tab(base_url=origin, viewport={"width": width, "height": 800})
        tab(lambda page: page.context.add_cookies([cookie]))
        tabs.append(tab)
        return tab

    yield open_tab
    for tab in tabs:
        tab.close()


def press(page, name):
    page.get_by_role("button", name=name).or_(page.get_by_role("link", name=name)).first.click()


def heading(page):
    return page.get_by_role("heading", level=1).inner_text()


def assert_laid_out(page):
    """Assert that the page fits the width, and that its buttons have the height of one or two lines."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    heights = page.eval_on_selector_all(".button", "all => all.map(one => one.offsetHeight)")
    assert heights
    assert all(30 < height < 60 for height in heights)


@pytest.mark.parametrize("width", WIDTHS)
def test_connecting_works_under_a_strict_policy(width, open_tab, provider):
    tab = open_tab(width)

    def walk(page):
        page.goto("/oauth/")
        assert_laid_out(page)
        press(page, "Codeyard")
        assert_laid_out(page)
        press(page, "Continue to Codeyard")
        page.wait_for_url(f"{provider.url}/authorize?**")
        press(page, "Allow")
        page.wait_for_url("**/oauth/")
        assert_laid_out(page)
        return page.get_by_role("status").inner_text()

    assert tab(walk) == "ada is connected."
    assert tab.refused == []
    assert Connection.objects.get().account_label == "ada"


def test_the_back_button_leads_from_the_provider_to_the_connect_page(open_tab, provider):
    def walk(page):
        page.goto("/oauth/scripted/connect/")
        press(page, "Continue to Codeyard")
        page.wait_for_url(f"{provider.url}/authorize?**")
        page.go_back()
        page.wait_for_url("**/oauth/scripted/connect/")
        return heading(page)

    assert open_tab()(walk) == "Connect Codeyard"


def test_the_provider_does_not_learn_the_page_that_the_user_comes_from(open_tab, provider):
    def walk(page):
        page.goto("/oauth/scripted/connect/?next=/private/")
        press(page, "Continue to Codeyard")
        page.wait_for_url(f"{provider.url}/authorize?**")

    open_tab()(walk)

    assert "Referer" not in provider.asked("/authorize")[0].headers


@pytest.mark.parametrize("width", WIDTHS)
def test_who_has_two_accounts_is_asked_once_which_one(width, open_tab, make_connection):
    for name in ("ada@example.com", "linus@example.com"):
        make_connection(account_label=name)
    tab = open_tab(width)

    def walk(page):
        page.goto("/report/")
        assert heading(page) == "Which account?"
        assert_laid_out(page)
        page.get_by_label("linus@example.com").check()
        press(page, "Use this account")
        page.wait_for_url("**/report/")
        assert heading(page) == "Report of linus@example.com"
        page.goto("/report/")
        return heading(page)

    assert tab(walk) == "Report of linus@example.com"
    assert tab.refused == []


def test_the_list_says_which_account_is_used_and_changes_it(open_tab, make_connection):
    for name in ("ada@example.com", "linus@example.com"):
        make_connection(account_label=name)

    def walk(page):
        page.goto("/oauth/")
        page.get_by_role("link", name=re.compile("^Choose")).first.click()
        page.get_by_label("ada@example.com").check()
        press(page, "Use this account")
        page.wait_for_url("**/oauth/")
        assert_laid_out(page)
        used = page.locator("section", has_text="This account is used.")
        return used.get_by_role("paragraph").first.inner_text(), used.count()

    assert open_tab()(walk) == ("ada@example.com", 1)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_wrong_shop_is_corrected_in_the_form(width, open_tab, provider, entry, configure):
    shop = {
        "source": "user",
        "label": "Shop",
        "pattern": r"([a-z-]+)(?:\.shops\.example)?",
        "example": "my-shop.shops.example",
    }
    url = f"{provider.url}/{{shop}}/authorize"
    configure(PROVIDERS={"scripted": {**entry, "authorization_endpoint": url, "variables": {"shop": shop}}})
    tab = open_tab(width)

    def walk(page):
        page.goto("/oauth/scripted/connect/")
        assert_laid_out(page)
        field = page.get_by_role("textbox", name="Shop")
        field.fill("My shop!")
        press(page, "Continue to Codeyard")
        error = page.get_by_text("Enter it like my-shop.shops.example.")
        error.wait_for()
        assert_laid_out(page)
        assert field.input_value() == "My shop!"
        assert field.evaluate("one => one === document.activeElement")
        described = field.get_attribute("aria-describedby").split()
        assert error.locator("xpath=..").get_attribute("id") in described
        field.fill("https://ada-s.shops.example/")
        press(page, "Continue to Codeyard")
        page.wait_for_url(f"{provider.url}/ada-s/authorize?**")

    tab(walk)
    assert tab.refused == []


@pytest.mark.parametrize("width", WIDTHS)
def test_who_denied_access_tries_again(width, open_tab, provider):
    tab = open_tab(width)

    def walk(page):
        page.goto("/oauth/scripted/connect/")
        press(page, "Continue to Codeyard")
        page.wait_for_url(f"{provider.url}/authorize?**")
        press(page, "Deny")
        page.wait_for_url("**/callback/**")
        assert heading(page) == "Not connected"
        assert_laid_out(page)
        press(page, "Try again")
        page.wait_for_url("**/oauth/scripted/connect/**")
        return heading(page)

    assert tab(walk) == "Connect Codeyard"
    assert tab.refused == []
