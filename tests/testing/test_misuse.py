"""A fake provider that is used wrongly says what to do."""

from __future__ import annotations

import gc
import multiprocessing
import os
from typing import Any

import pytest
from django.shortcuts import redirect
from django.test import AsyncClient, Client

from oauth_connect.models import Connection, Owner
from oauth_connect.testing import FakeProvider
from oauth_connect.testing.errors import FakeProviderError
from oauth_connect.views import CallbackView

pytestmark = [pytest.mark.django_db, pytest.mark.once, pytest.mark.usefixtures("no_settings")]


def test_it_must_be_open(user, client):
    fake = FakeProvider("acme")
    for use in (
        lambda: fake.url,
        lambda: fake.requests,
        lambda: fake.store(user),
        lambda: fake.connect(client),
    ):
        with pytest.raises(FakeProviderError, match=r"is not open\. Use it inside of: with FakeProvider"):
            use()
    assert repr(fake) == "<FakeProvider 'acme' not open>"


def test_it_must_still_be_open(user):
    with FakeProvider("acme") as fake:
        connection = fake.store(user)
    fake.close()
    for use in (lambda: fake.api("GET", "/user"), lambda: fake.expire(connection)):
        with pytest.raises(FakeProviderError, match="is not open any more"):
            use()
    with pytest.raises(FakeProviderError, match="Make another one"):
        fake.open()


@pytest.mark.parametrize(
    ("name", "meant"), [("githb", "github"), ("git_hub", "github"), ("acme-bnk", "acme-bank")]
)
def test_a_name_with_a_typing_error_is_refused_before_it_opens(configure, name, meant):
    configure(PROVIDERS={"acme-bank": {"client_id": "app"}})
    fake = FakeProvider(name)
    with pytest.raises(FakeProviderError, match=f"a preset; did you mean '{meant}'") as error:
        fake.open()
    assert f"FakeProvider('{name}', entry={{}})" in str(error.value)
    assert repr(fake).endswith("not open>")


def test_a_name_that_is_similar_to_a_known_one_and_right_gets_an_entry(configure):
    with FakeProvider("githb", entry={}) as fake:
        assert fake.url
    configure(PROVIDERS={"githb": {"preset": "github", "client_id": "app"}})
    with FakeProvider("githb") as fake:
        assert fake.url
    configure(PROVIDER_LOADER=lambda slug, owner: None)
    with FakeProvider("githb") as fake:
        assert fake.url


def test_two_of_one_name_are_refused_and_the_first_is_named():
    with FakeProvider("github"):
        with pytest.raises(FakeProviderError, match=r"is open already, since .*test_misuse\.py:\d+") as error:
            FakeProvider("github").open()
        assert 'entry={"preset": ' in str(error.value)
        with FakeProvider("github-bot", entry={"preset": "github"}) as second:
            assert second.url


def test_a_connection_of_another_provider_is_refused(user):
    with FakeProvider("github") as github, FakeProvider("slack") as slack:
        connection = slack.store(user)
        for act in (github.expire, github.end_grant):
            with pytest.raises(FakeProviderError, match=r"a connection to 'slack', and the fake provider is"):
                act(connection)


def test_a_connection_that_another_fake_has_issued_is_refused(user):
    with FakeProvider("github") as former:
        connection = former.store(user)
    with FakeProvider("github") as fake:
        for act in (fake.expire, fake.end_grant):
            with pytest.raises(FakeProviderError, match="did not issue the token") as error:
                act(connection)
            assert connection.token.access_token not in str(error.value)
            assert error.value.__suppress_context__


def test_a_connection_without_a_token_is_refused(user):
    with FakeProvider("acme") as fake:
        connection = fake.store(user)
        connection.disconnect()
        with pytest.raises(FakeProviderError, match="is disconnected"):
            fake.expire(connection)
        Connection.objects.all().delete()
        with pytest.raises(FakeProviderError, match="not in the database"):
            fake.expire(connection)


def test_an_unknown_account_is_named_with_those_that_there_are(client, user):
    with FakeProvider("acme") as fake:
        for act in (lambda: fake.connect(client, account="mona"), lambda: fake.store(user, "mona")):
            with pytest.raises(FakeProviderError, match=r"no account 'mona'\. It has: 'octocat', 'hubot'"):
                act()


def test_an_endpoint_that_there_is_not_is_answered_with_a_list():
    with FakeProvider("acme") as fake, pytest.raises(FakeProviderError, match="device_authorization"):
        fake.fail("tokens", status=503)


def test_a_client_without_a_login_reads_how_to_log_in():
    with FakeProvider("acme") as fake, pytest.raises(FakeProviderError, match=r"client\.force_login\(user\)"):
        fake.connect(Client())


def test_a_site_without_the_pages_reads_how_to_include_them(settings, client):
    settings.ROOT_URLCONF = "tests.testing.urls_without_pages"
    with (
        FakeProvider("acme") as fake,
        pytest.raises(FakeProviderError, match=r"include\(.oauth_connect.urls"),
    ):
        fake.connect(client)


def test_a_provider_that_is_not_offered_is_named(client):
    fake = FakeProvider("acme", entry={"enabled": False})
    with fake, pytest.raises(FakeProviderError, match=r"'acme': its entry has enabled = False"):
        fake.connect(client)


def test_a_value_that_the_page_refuses_is_shown_with_its_sentence(client):
    with FakeProvider("shopify") as fake, pytest.raises(FakeProviderError, match=r"400: .*shop"):
        fake.connect(client, shop="not a shop")


def test_a_user_who_may_not_connect_reads_it(configure, client, user):
    configure(OWNER=lambda request: Owner("org:1", may_manage=False))
    with FakeProvider("acme") as fake, pytest.raises(FakeProviderError, match=r"page .* answers 403: \w+"):
        fake.connect(client)


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ({"status": 503}, "does not send the browser back. It answers 503"),
        ({"timeout": True}, r"no answer from http://127.0.0.1:\d+/authorize \(TimeoutError\)"),
        ({"lost": True}, r"no answer from http://127.0.0.1:\d+/authorize \(\w+\)"),
    ],
)
def test_a_provider_that_the_browser_does_not_get_past_is_shown(client, failure, text):
    with FakeProvider("acme") as fake:
        fake.fail("authorization", **failure)
        with pytest.raises(FakeProviderError, match=text) as error:
            fake.connect(client)
        assert fake.requests[0].query["state"] not in str(error.value)


def test_a_callback_that_stores_nothing_is_not_taken_for_a_connection(client, monkeypatch):
    """A view of the site in place of ours may redirect, and store nothing."""
    monkeypatch.setattr(CallbackView, "get", lambda view, request, provider, **kwargs: redirect("/"))
    with FakeProvider("acme") as fake, pytest.raises(FakeProviderError, match="has stored no connection"):
        fake.connect(client)


def test_each_client_has_its_own_method(client, user):
    with FakeProvider("acme") as fake, pytest.raises(FakeProviderError, match=r"await fake\.aconnect"):
        fake.connect(AsyncClient())  # type: ignore[arg-type]


def test_one_that_is_left_open_is_closed_and_named():
    with pytest.warns(ResourceWarning, match=r"'acme' was left open. .*test_misuse\.py:\d+"):
        leave_open()
    with FakeProvider("acme"):
        pass


def leave_open() -> None:
    FakeProvider("acme").open()
    gc.collect()


@pytest.mark.process
def test_another_process_must_open_its_own():
    context = multiprocessing.get_context("fork")
    with FakeProvider("acme") as fake:
        receiving, sending = context.Pipe(duplex=False)
        child = context.Process(target=use_in_a_child, args=(fake, sending))
        child.start()
        text = receiving.recv() if receiving.poll(60) else ""
        child.join(60)
        assert f"was opened in the process {os.getpid()}" in text
        assert fake.url


def use_in_a_child(fake: FakeProvider, sending: Any) -> None:
    try:
        sending.send(str(fake.requests))
    except FakeProviderError as error:
        sending.send(str(error))
    os._exit(0)


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"accounts": "octocat"}, r"pass a list such as \['octocat'\]"),
        ({"accounts": []}, "give each account a name"),
        ({"lifetime": "1h"}, "lifetime: '1h' is not a whole number of seconds"),
        ({"entry": ["repo"]}, "entry: pass a dict"),
    ],
)
def test_options_that_are_none_are_refused_before_it_opens(options, text):
    with pytest.raises(FakeProviderError, match=text):
        FakeProvider("acme", **options)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"scopes": "repo"}, r"scopes: pass a list such as \['repo'\]"),
        ({"granted": "repo"}, r"scopes: pass a list such as \['repo'\]"),
        ({"shop": "mine"}, r"'acme' does not ask for shop\. It asks for nothing\."),
        ({"acount": "hubot"}, "does not ask for acount"),
    ],
)
def test_what_the_connect_page_does_not_take_is_refused(client, arguments, text):
    with FakeProvider("acme") as fake, pytest.raises(FakeProviderError, match=text):
        fake.connect(client, **arguments)


def test_a_variable_that_the_page_does_not_ask_for_is_refused_with_those_that_it_does(client):
    with FakeProvider("shopify") as fake, pytest.raises(FakeProviderError, match=r"shoop\. It asks for shop"):
        fake.connect(client, shoop="mine")


def test_each_name_that_takes_another_thing_says_what_it_takes(client, user):
    with FakeProvider("acme") as fake:
        for act, text in (
            (lambda: fake.connect(user), "Pass Django's test client, as in self.client, not User"),
            (lambda: fake.store(user, scopes="repo"), r"scopes: pass a list such as \['repo'\]"),
            (lambda: fake.store(None), "An owner must be a saved user"),
            (lambda: fake.expire(user), "Pass the Connection, not User"),
            (lambda: fake.end_grant(None), "Pass the Connection, not NoneType"),
            (lambda: fake.consent("hubot", "repo"), r"scopes: pass a list"),
            (lambda: fake.fail("tokens", status=503), "did you mean 'token'"),
            (lambda: fake.fail("token", status="503"), "status: '503' is not the status"),
            (lambda: fake.fail("token", status=503, times="2"), "times: '2'"),
            (
                lambda: fake.fail("token", status=400, body={"error": "x"}),
                "body: pass str or bytes, not dict",
            ),
            (lambda: fake.recover("tokens"), "did you mean 'token'"),
            (lambda: fake.api("/user", "GET", json={}), "method: '/user' is not a method"),
            (lambda: fake.api("GET", "https://api.github.com/user"), "must be a path below"),
            (lambda: fake.api("GET", "/user", json={1}), "not JSON serializable"),
            (lambda: fake.api("GET", "/user", body={"a": 1}), "body: pass str or bytes, not dict"),
            (lambda: fake.api("GET", "/user", status="200"), "status: '200' is not the status"),
            (lambda: fake.api("GET", "/user", headers={"X-Total": 3}), "the value of X-Total must be"),
            (lambda: fake.api("GET", "/user", headers={"X-Total": "1\r\nA: b"}), "must be one line"),
        ):
            with pytest.raises(FakeProviderError, match=text):
                act()


def test_a_page_of_the_provider_that_is_no_text_is_shown_as_well_as_it_can_be(client):
    with FakeProvider("acme") as fake:
        fake.fail("authorization", status=200, body=b"\xff\xfe")
        with pytest.raises(FakeProviderError, match="does not send the browser back"):
            fake.connect(client)
