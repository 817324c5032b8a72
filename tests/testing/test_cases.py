"""The kit in each kind of test case of Django."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import requests
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.test import LiveServerTestCase, TestCase, TransactionTestCase, override_settings
from django.urls import reverse

from oauth_connect.flows import aaccess_token_for, session_for
from oauth_connect.models import Connection
from oauth_connect.testing import FakeProvider, FakeProviderMixin

pytestmark = pytest.mark.once


class KitMixin(FakeProviderMixin):
    def setUp(self) -> None:
        super().setUp()
        self.user = get_user_model().objects.create_user("grace")
        self.client.force_login(self.user)
        self.acme = self.fake("acme")

    def check_all(self) -> None:
        connection = self.acme.connect(self.client, scopes=["read"])
        self.acme.api("GET", "/user", json={"login": "octocat"})
        self.acme.expire(connection)
        assert session_for(self.user, "acme").get("user").json() == {"login": "octocat"}
        assert [one.form["grant_type"] for one in self.acme.requests if one.path == "/token"] == [
            "authorization_code",
            "refresh_token",
        ]


@override_settings(OAUTH_CONNECT={})
class InTestCase(KitMixin, TestCase):
    def test_connects_and_refreshes(self) -> None:
        self.check_all()

    def test_disconnects_with_the_callbacks_of_the_commit(self) -> None:
        connection = self.acme.connect(self.client)
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post(reverse("oauth_connect:disconnect", args=[connection.pk]), secure=True)
        assert self.acme.requests[-1].path == "/revoke"


@override_settings(OAUTH_CONNECT={})
class InTransactionTestCase(KitMixin, TransactionTestCase):
    def test_connects_and_refreshes(self) -> None:
        self.check_all()


class ForAllTests(TestCase):
    """One fake provider for the tests of a class."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.acme = cls.enterClassContext(FakeProvider("acme"))

    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = get_user_model().objects.create_user("grace")

    def test_stores(self) -> None:
        assert self.acme.store(self.user).status == "active"

    def test_stores_once_more(self) -> None:
        assert Connection.objects.count() == 0
        assert self.acme.store(self.user).status == "active"


class WithTestData(TestCase):
    """Django copies what ``setUpTestData`` sets for each test. There is one server all the same."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = get_user_model().objects.create_user("grace")
        cls.acme = cls.enterClassContext(FakeProvider("acme"))

    def test_the_fake_provider_is_the_same_in_each_test(self) -> None:
        self.acme.api("GET", "/user", json=1)
        assert self.acme.store(self.user).session().get("user").json() == 1


class AsyncTest(FakeProviderMixin, TestCase):
    async def test_connects_and_refreshes(self) -> None:
        user = await get_user_model().objects.acreate_user("grace")
        await self.async_client.aforce_login(user)
        acme = self.fake("acme")
        connection = await acme.aconnect(self.async_client, account="hubot", scopes=["read"])
        before = await connection.aaccess_token()
        await sync_to_async(acme.expire)(connection)
        assert await aaccess_token_for(user, "acme") != before
        with self.assertRaisesMessage(AssertionError, "This is not an AsyncClient"):
            await acme.aconnect(self.client)  # type: ignore[arg-type]


@override_settings(OAUTH_CONNECT={})
class LiveServerTest(FakeProviderMixin, LiveServerTestCase):
    """A browser that is no test client: it follows the redirects between both servers."""

    def test_a_browser_connects(self) -> None:
        user = get_user_model().objects.create_user("grace")
        self.client.force_login(user)
        acme = self.fake("acme")
        acme.consent("hubot", ["read"])
        page = self.live_server_url + reverse("oauth_connect:connect", args=["acme"])
        with requests.Session() as browser:
            browser.cookies["sessionid"] = self.client.cookies["sessionid"].value
            browser.get(page, timeout=60)
            form = {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            done = browser.post(page, form, headers={"Accept": "*/*"}, timeout=60)
        assert (done.status_code, urlsplit(done.url).path) == (200, reverse("oauth_connect:connections"))
        assert "hubot" in Connection.objects.get().account_label
        assert self.live_server_url in acme.requests[0].query["redirect_uri"]
