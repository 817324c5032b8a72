"""The loopback redirect (RFC 8252) listens on this machine only, takes one response, and closes."""

from __future__ import annotations

import socket

import pytest
import requests

from oauth_connect.protocol.net.loopback import LoopbackRedirect


@pytest.fixture
def redirect():
    with LoopbackRedirect("state-1") as redirect:
        yield redirect


def get(url, **options):
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=60, **options)


@pytest.mark.compliance("A38")
def test_it_listens_only_on_loopback_on_a_free_port(redirect):
    assert redirect.redirect_uri == f"http://127.0.0.1:{redirect.port}/callback"
    assert redirect._server.socket.getsockname()[0] == "127.0.0.1"
    with LoopbackRedirect("state-2") as other:
        assert other.port != redirect.port


def test_the_response_has_each_parameter_as_often_as_it_was_sent(redirect):
    page = get(f"{redirect.redirect_uri}?code=a&code=b&state=state-1&empty=")
    assert page.status_code == 200
    assert redirect.wait(60) == [("code", "a"), ("code", "b"), ("state", "state-1"), ("empty", "")]


@pytest.mark.compliance("A42")
def test_the_page_repeats_no_parameter_and_is_not_cached(redirect):
    page = get(f"{redirect.redirect_uri}?code=secret-code&state=state-1")
    assert "secret-code" not in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.compliance("A1")
@pytest.mark.parametrize(
    "query", ["code=a&state=another", "code=a", "", "code=a&state=", "state=state-1%00", "state=st%C3%A4te"]
)
def test_a_request_without_the_state_is_refused_and_ends_nothing(redirect, query):
    assert get(f"{redirect.redirect_uri}?{query}").status_code == 400
    assert redirect.wait(0) is None
    assert get(f"{redirect.redirect_uri}?code=a&state=state-1").status_code == 200


def test_a_request_to_another_path_or_host_is_refused(redirect):
    origin = f"http://127.0.0.1:{redirect.port}"
    assert get(f"{origin}/favicon.ico?state=state-1").status_code == 400
    rebound = get(f"{origin}/callback?state=state-1", headers={"Host": f"evil.test:{redirect.port}"})
    assert rebound.status_code == 400
    assert redirect.wait(0) is None


@pytest.mark.compliance("A38")
def test_a_second_response_is_refused_and_after_the_end_the_port_is_closed(redirect):
    url = f"{redirect.redirect_uri}?code=a&state=state-1"
    assert get(url).status_code == 200
    assert get(url).status_code == 400
    redirect.wait(60)
    redirect.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", redirect.port), timeout=60)


def test_a_silent_connection_blocks_nothing(redirect):
    with socket.create_connection(("127.0.0.1", redirect.port)):
        assert get(f"{redirect.redirect_uri}?state=state-1").status_code == 200
        assert redirect.wait(60) == [("state", "state-1")]
