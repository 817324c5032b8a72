"""The loopback redirect (RFC 8252) listens on this machine only, takes one response, and closes."""

from __future__ import annotations

import socket

import pytest
import requests

from oauth_connect.protocol.net import loopback
from oauth_connect.protocol.net.loopback import LoopbackRedirect, PortUnavailable


@pytest.fixture
def redirect():
    with LoopbackRedirect("state-1") as redirect:
        yield redirect


def addresses(redirect):
    return [server.socket.getsockname()[:2] for server in redirect._servers]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def get(url, **options):
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=60, **options)


@pytest.mark.compliance("A38")
def test_it_listens_only_on_loopback_on_a_free_port(redirect):
    assert redirect.redirect_uri == f"http://127.0.0.1:{redirect.port}/callback"
    assert addresses(redirect) == [("127.0.0.1", redirect.port)]
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


def test_host_port_and_path_are_those_that_are_registered():
    port = free_port()
    for host in ("127.0.0.1", "localhost"):
        with LoopbackRedirect("s", host=host, port=port, path="/signed/in") as redirect:
            assert redirect.redirect_uri == f"http://{host}:{port}/signed/in"
            assert get(f"http://{host}:{port}/callback?state=s").status_code == 400
            assert get(f"{redirect.redirect_uri}?state=s").status_code == 200
            assert redirect.wait(60) == [("state", "s")]


def test_localhost_is_both_addresses_at_one_port():
    """A browser may choose either address. Another program at one of them would get the code."""
    with LoopbackRedirect("s", host="localhost") as redirect:
        assert addresses(redirect) == [("127.0.0.1", redirect.port), ("::1", redirect.port)]
        for address in ("127.0.0.1", "[::1]"):
            page = get(f"http://{address}:{redirect.port}/", headers={"Host": f"localhost:{redirect.port}"})
            assert page.status_code == 400
        assert get(f"http://[::1]:{redirect.port}/callback?state=s").status_code == 400
        right = {"Host": f"localhost:{redirect.port}"}
        assert get(f"http://[::1]:{redirect.port}/callback?state=s", headers=right).status_code == 200


def test_the_address_of_ipv6_is_written_in_brackets():
    with LoopbackRedirect("s", host="[::1]") as redirect:
        assert redirect.redirect_uri == f"http://[::1]:{redirect.port}/callback"
        assert addresses(redirect) == [("::1", redirect.port)]
        assert get(f"{redirect.redirect_uri}?state=s").status_code == 200


def test_without_ipv6_localhost_is_one_address(monkeypatch):
    create = loopback._Server.__init__

    def only_ipv4(self, address, handler):
        if ":" in address[0]:
            raise loopback._NoAddress
        create(self, address, handler)

    monkeypatch.setattr(loopback._Server, "__init__", only_ipv4)
    with LoopbackRedirect("s", host="localhost") as redirect:
        assert addresses(redirect) == [("127.0.0.1", redirect.port)]
    with pytest.raises(PortUnavailable):
        LoopbackRedirect("s", host="[::1]")


@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_a_port_that_another_program_uses_is_refused_at_either_address(taken):
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.create_server((taken, 0), family=family) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortUnavailable):
            LoopbackRedirect("s", host="localhost", port=port)
    with LoopbackRedirect("s", host="localhost", port=port) as redirect:
        assert redirect.port == port


def test_a_fixed_port_can_be_used_again_immediately():
    port = free_port()
    for state in ("one", "two"):
        with LoopbackRedirect(state, port=port) as redirect:
            assert get(f"{redirect.redirect_uri}?state={state}").status_code == 200


def test_a_prefetch_does_not_take_the_response(redirect):
    url = f"{redirect.redirect_uri}?code=a&state=state-1"
    for headers in ({"Sec-Purpose": "prefetch;prerender"}, {"x-moz": "prefetch"}):
        assert get(url, headers=headers).status_code == 503
    assert redirect.wait(0) is None
    assert get(url).status_code == 200
