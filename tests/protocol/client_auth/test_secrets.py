"""Several secrets of one client. The next one is tried only if the server refused the secret itself."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_plus

import pytest

from oauth_connect.errors import ProviderMisconfigured, ProviderRejected, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.client_auth import secrets
from tests.protocol.calls import CALLS
from tests.servers.scripted import Answer, Recorded, ScriptedServer

Make = Callable[..., AuthorizationServer]

ISSUED = Answer(body={"access_token": "access-1", "token_type": "Bearer"})
REFUSED = Answer(401, {"error": "invalid_client"})
BOTH = ["new: +&%", "old"]
every_call = pytest.mark.parametrize(
    ("path", "call"), [CALLS[name] for name in ("exchange", "refresh", "revoke")]
)


@pytest.fixture(autouse=True)
def no_remembered_secret() -> Iterator[None]:
    secrets._accepted.clear()
    yield
    secrets._accepted.clear()


def sent(request: Recorded) -> str:
    if "client_secret" in request.form:
        return request.form["client_secret"]
    pair = b64decode(request.headers["Authorization"].partition(" ")[2]).decode()
    return unquote_plus(pair.partition(":")[2])


def secrets_sent(scripted: ScriptedServer, path: str = "/token") -> list[str]:
    return [sent(request) for request in scripted.asked(path)]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@every_call
def test_the_next_secret_is_tried_where_one_is_refused_and_nothing_else_changes(
    scripted, server_of, path, call, method
):
    scripted.on(path, REFUSED, ISSUED)
    call(server_of(client_secret=BOTH, token_endpoint_auth_method=method))

    first, second = scripted.asked(path)
    assert [sent(first), sent(second)] == BOTH
    own = {"client_id", "client_secret"}
    assert {name: first.form[name] for name in first.form if name not in own} == {
        name: second.form[name] for name in second.form if name not in own
    }


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(401, {"error": "invalid_client"}),
        Answer(400, {"error": "invalid_client"}),
        Answer(401, {"error": "unauthorized_client"}),
        Answer(200, {"error": "invalid_client"}),
        Answer(401, b"<p>no</p>", {"Content-Type": "text/html"}),
    ],
)
def test_the_next_secret_is_tried_for_every_form_of_the_refusal(scripted, server_of, refusal):
    scripted.on("/token", refusal, ISSUED)
    CALLS["refresh"][1](server_of(client_secret=BOTH))
    assert secrets_sent(scripted) == BOTH


@pytest.mark.parametrize(
    "other",
    [
        Answer(400, {"error": "invalid_grant"}),
        Answer(401, {"error": "invalid_grant"}),
        Answer(400, {"error": "unauthorized_client"}),
        Answer(400, {"error": "invalid_request"}),
        Answer(403, {"error": "access_denied"}),
        Answer(404),
        Answer(429),
        Answer(503),
        Answer(302, headers={"Location": "https://elsewhere.example/"}),
        Answer(200, b"no token", {"Content-Type": "text/html"}),
        Answer(200, cut=3, body={"access_token": "lost"}),
        Answer(reset=True),
    ],
)
def test_after_anything_else_a_refresh_token_is_not_sent_again(scripted, server_of, other):
    scripted.on("/token", other, ISSUED)
    with pytest.raises((ProviderMisconfigured, ProviderRejected, ProviderUnavailable)):
        CALLS["refresh"][1](server_of(client_secret=BOTH))
    assert len(scripted.asked("/token")) == 1


def test_the_one_that_was_taken_comes_first_until_it_is_refused(scripted, server_of):
    server = server_of(client_secret=BOTH)
    scripted.on("/token", REFUSED, ISSUED)
    for _ in range(3):
        CALLS["refresh"][1](server_of(client_secret=BOTH))
    assert secrets_sent(scripted) == [*BOTH, "old", "old"]

    scripted.on("/token", REFUSED, ISSUED)  # the server accepts the new secret now
    CALLS["refresh"][1](server)
    CALLS["refresh"][1](server)
    assert secrets_sent(scripted)[4:] == ["old", BOTH[0], BOTH[0]]


def test_what_one_server_takes_says_nothing_about_another(scripted, server_of):
    scripted.on("/token", REFUSED, ISSUED)
    scripted.on("/other", ISSUED)
    CALLS["refresh"][1](server_of(client_secret=BOTH))

    CALLS["refresh"][1](server_of(client_secret=BOTH, client_id="another"))
    CALLS["refresh"][1](server_of(client_secret=BOTH, token_endpoint=f"{scripted.url}/other"))
    assert secrets_sent(scripted)[2:] == BOTH[:1]
    assert secrets_sent(scripted, "/other") == BOTH[:1]


def test_a_secret_that_left_the_list_is_not_sent(scripted, server_of):
    scripted.on("/token", REFUSED, ISSUED)
    CALLS["refresh"][1](server_of(client_secret=BOTH))

    CALLS["refresh"][1](server_of(client_secret=BOTH[:1]))
    CALLS["refresh"][1](server_of(client_secret=["newest", BOTH[0]]))
    assert secrets_sent(scripted)[2:] == [BOTH[0], "newest"]


def test_if_all_are_refused_the_error_is_raised_after_all_were_tried(scripted, server_of):
    scripted.on("/token", REFUSED)
    with pytest.raises(ProviderMisconfigured, match="client_secret") as caught:
        CALLS["refresh"][1](server_of(client_secret=[*BOTH, "oldest"]))
    assert caught.value.error == "invalid_client"
    assert len(scripted.asked("/token")) == 3


def test_all_tries_share_one_deadline(scripted, server_of):
    """Each refusal takes less than one deadline. All of them together take longer."""
    secrets = [f"secret-{number}" for number in range(20)]
    scripted.on("/token", Answer(401, {"error": "invalid_client"}, delay=0.1))
    with pytest.raises(ProviderUnavailable) as caught:
        CALLS["refresh"][1](server_of(timeout=0.8, client_secret=secrets))
    assert caught.value.code == "timeout"
    assert len(scripted.asked("/token")) < 20


def test_a_function_may_return_several(scripted, server_of):
    scripted.on("/token", REFUSED, ISSUED)
    CALLS["refresh"][1](server_of(client_secret=lambda: BOTH))
    assert secrets_sent(scripted) == BOTH


def unreachable_vault() -> str:
    raise ConnectionError("canary-password of the vault")


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (unreachable_vault, ProviderUnavailable, "failed .ConnectionError.. Nothing was sent"),
        (list, ProviderMisconfigured, "the function returned no secret"),
        (lambda: None, ProviderMisconfigured, "the function returned no secret"),
        (lambda: [None], ProviderMisconfigured, "the function returned no secret"),
    ],
)
def test_without_a_secret_nothing_is_sent(scripted, server_of, function: Any, error, said):
    with pytest.raises(error, match=said) as caught:
        CALLS["refresh"][1](server_of(client_secret=function))
    assert scripted.requests == []
    assert "canary" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_no_secret_is_in_what_is_remembered_or_shown(scripted, server_of):
    scripted.on("/token", REFUSED, ISSUED)
    server = server_of(client_secret=BOTH)
    CALLS["refresh"][1](server)
    for shown in (repr(secrets.in_order(server.provider)), str(secrets._accepted)):
        assert not any(secret in shown for secret in BOTH)
