"""The device flow (RFC 8628): what is believed of its first answer, and how its end is waited for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from oauth_connect.errors import ProviderMisconfigured, ProviderRejected, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.device import DeviceAuthorization, await_token
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from tests.servers.scripted import Answer
from tests.support.clock import Clock

AUTHORIZATION = {
    "device_code": "device-1",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://example.com/device",
    "expires_in": 1800,
}
ISSUED = {"access_token": "access-1", "refresh_token": "refresh-1", "token_type": "Bearer"}


@pytest.fixture
def server(scripted, scripted_entry):
    entry = {**scripted_entry, "device_authorization_endpoint": f"{scripted.url}/device"}
    with AuthorizationServer(Provider.from_mapping("scripted", entry), timeout=50) as server:
        yield server


class Script:
    """Answers one after the other, and remembers when it was asked; the last one stays."""

    def __init__(self, clock: Clock, *answers: object) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.asked: list[float] = []

    def device_token(self, device_code, *, scopes=()):
        self.asked.append(self.clock.now)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip([1000.0, *self.asked], self.asked, strict=False)]


TOKEN = Token("access", datetime.now(UTC))
PENDING_ANSWER = Answer(400, body={"error": "authorization_pending"})
PENDING = ProviderRejected("", error="authorization_pending")
SLOW_DOWN = ProviderUnavailable("", code="slow_down")
AWAY = ProviderUnavailable("", code="unreachable")


def waited(*answers, interval=5.0, expires_in=1800.0, **options):
    clock = Clock(1000.0)
    script = Script(clock, *answers)
    authorization = DeviceAuthorization(
        "device", "USER", "https://example.com", interval=interval, expires_in=expires_in
    )
    try:
        outcome = await_token(script, authorization, clock=clock, sleep=clock.sleep, **options)
    except ProviderRejected as error:
        outcome = error.error
    return script, outcome


# --- the first answer -----------------------------------------------------------------------------


def test_a_device_flow_begins_with_code_address_and_interval(scripted, server):
    scripted.on(
        "/device",
        Answer(
            body={
                **AUTHORIZATION,
                "interval": 7,
                "verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
            }
        ),
    )
    authorization = server.authorize_device(["repo", "user"])
    (request,) = scripted.asked("/device")
    assert request.form == {"client_id": "client", "scope": "repo user"}
    assert request.headers["Authorization"].startswith("Basic ")
    assert (authorization.user_code, authorization.verification_uri) == (
        "WDJB-MJHT",
        "https://example.com/device",
    )
    assert authorization.verification_uri_complete.endswith("=WDJB-MJHT")
    assert (authorization.interval, authorization.expires_in) == (7, 1800)
    assert "device-1" not in repr(authorization)


@pytest.mark.compliance("A36")
@pytest.mark.parametrize("interval", [None, 0, -3, "soon", True])
def test_without_a_sensible_interval_it_is_five_seconds(scripted, server, interval):
    scripted.on("/device", Answer(body={**AUTHORIZATION, "interval": interval}))
    assert server.authorize_device().interval == 5


@pytest.mark.compliance("A36")
@pytest.mark.parametrize("interval", [0.001, "0.5"])
def test_an_interval_below_a_second_is_a_second(scripted, server, interval):
    scripted.on("/device", Answer(body={**AUTHORIZATION, "interval": interval}))
    assert server.authorize_device().interval == 1


def test_an_address_by_its_older_name_will_do(scripted, server):
    body = {**AUTHORIZATION, "verification_url": AUTHORIZATION["verification_uri"]}
    del body["verification_uri"]
    scripted.on("/device", Answer(body=body))
    assert server.authorize_device().verification_uri == "https://example.com/device"


def test_escapes_are_stripped_from_the_code(scripted, server):
    scripted.on(
        "/device", Answer(body={**AUTHORIZATION, "user_code": "\x1b]0;owned\x07\x1b[2JAB\u202eCD\r\nEF"})
    )
    assert server.authorize_device().user_code == "]0;owned[2JABCD EF"


@pytest.mark.compliance("mcp-remote")
@pytest.mark.parametrize("name", ["verification_uri", "verification_uri_complete"])
@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/device",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "-x",
        "https://example.com/$(touch owned)",
        "https://example.com/`id`",
        "https://example.com/;a b",
        "https://user@example.com/",
        "https://example.com\\@evil.test/",
        "https://ex\u0430mple.com/",
        "https://example.com/\x1b[2J",
        7,
    ],
)
def test_an_address_that_is_not_plain_https_is_not_shown(scripted, server, name, address):
    scripted.on("/device", Answer(body={**AUTHORIZATION, name: address}))
    with pytest.raises(ProviderMisconfigured, match="device_authorization_endpoint of 'scripted'") as refused:
        server.authorize_device()
    assert str(address) not in str(refused.value)


@pytest.mark.parametrize("name", ["device_code", "user_code", "verification_uri"])
def test_an_answer_that_lacks_something_cannot_be_used(scripted, server, name):
    scripted.on("/device", Answer(body={**AUTHORIZATION, name: ""}))
    with pytest.raises(ProviderMisconfigured):
        server.authorize_device()


@pytest.mark.parametrize(("status", "body"), [(400, {"error": "invalid_scope"}), (403, {})])
def test_a_refusal_is_reported(scripted, server, status, body):
    scripted.on("/device", Answer(status, body=body))
    with pytest.raises(ProviderRejected) as refused:
        server.authorize_device()
    assert refused.value.error == (body.get("error") or "http_403")


# --- the wait -------------------------------------------------------------------------------------


@pytest.mark.compliance("A36")
@pytest.mark.compliance("D53")
def test_slow_down_adds_five_seconds_for_good():
    script, outcome = waited(PENDING, SLOW_DOWN, PENDING, SLOW_DOWN, PENDING, TOKEN)
    assert script.pauses == [5, 5, 10, 10, 15, 15]
    assert outcome is TOKEN


@pytest.mark.compliance("A36")
def test_a_server_that_cannot_be_reached_is_asked_ever_more_rarely():
    script, outcome = waited(AWAY, AWAY, AWAY, AWAY, AWAY, PENDING, TOKEN)
    assert script.pauses == [5, 10, 20, 40, 60, 60, 5]
    assert outcome is TOKEN


def test_what_a_server_asks_for_is_waited():
    busy = ProviderUnavailable("", code="http_429", retry_after=90)
    assert waited(busy, TOKEN)[0].pauses == [5, 90]


@pytest.mark.compliance("A36")
@pytest.mark.parametrize("body", [b"", {"error": "slow_down"}])
def test_status_429_lengthens_the_interval_for_the_rest_of_the_flow(scripted, server, body):
    scripted.on("/token", Answer(429, body=body), PENDING_ANSWER, PENDING_ANSWER, Answer(body=ISSUED))
    clock = Clock(1000.0)
    authorization = DeviceAuthorization("device-1", "USER", "https://example.com", interval=1)
    assert await_token(server, authorization, clock=clock, sleep=clock.sleep).access_token == "access-1"
    assert clock.now == 1000 + 1 + 6 + 6 + 6


@pytest.mark.compliance("A36")
@pytest.mark.parametrize("status", [200, 403, 404, 428, 429, 500, 503])
def test_a_pending_flow_is_pending_with_any_status(scripted, server, status):
    answers = (Answer(status, body={"error": code}) for code in ("slow_down", "authorization_pending"))
    scripted.on("/token", *answers, Answer(body=ISSUED))
    clock = Clock(1000.0)
    authorization = DeviceAuthorization("device-1", "USER", "https://example.com", interval=1)
    assert await_token(server, authorization, clock=clock, sleep=clock.sleep).access_token == "access-1"
    assert clock.now == 1000 + 1 + 6 + 6


@pytest.mark.compliance("A36")
@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant"])
@pytest.mark.parametrize("status", [200, 401, 404, 429, 500])
def test_an_end_is_an_end_with_any_status(scripted, server, status, error):
    scripted.on("/token", Answer(status, body={"error": error}), Answer(body=ISSUED))
    with pytest.raises(ProviderRejected) as refused:
        server.device_token("device-1")
    assert refused.value.error == error


def test_a_400_without_a_body_is_pending(scripted, server):
    scripted.on("/token", Answer(400), Answer(400), Answer(body=ISSUED))
    clock = Clock(1000.0)
    authorization = DeviceAuthorization("device-1", "USER", "https://example.com", interval=1)
    assert await_token(server, authorization, clock=clock, sleep=clock.sleep).access_token == "access-1"


@pytest.mark.parametrize("body", [b"<html>", {"message": "no"}])
def test_a_400_without_a_code_that_says_something_ends_it(scripted, server, body):
    scripted.on("/token", Answer(400, body=body))
    with pytest.raises(ProviderRejected, match="http_400"):
        server.device_token("device-1")


def test_an_entry_may_say_what_a_status_means_in_a_device_flow(scripted, scripted_entry):
    errors = {"http_400": "expired_token", "http_418": "access_denied"}
    made = Provider.from_mapping("scripted", {**scripted_entry, "token_response": {"errors": errors}})
    scripted.on("/token", Answer(400), Answer(418))
    with AuthorizationServer(made, timeout=50) as server:
        for code in errors.values():
            with pytest.raises(ProviderRejected, match=code):
                server.device_token("device-1")


@pytest.mark.compliance("A36")
@pytest.mark.compliance("D53")
@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant", "something_else"])
def test_any_other_refusal_ends_it(error):
    script, outcome = waited(PENDING, ProviderRejected("", error=error))
    assert (outcome, len(script.asked)) == (error, 2)


@pytest.mark.parametrize("answer", [PENDING, AWAY, SLOW_DOWN])
def test_after_the_code_has_expired_no_request_is_sent(answer):
    script, outcome = waited(answer, expires_in=30.0)
    assert outcome == "expired_token"
    assert script.asked[-1] < 1030


def test_each_second_is_reported_with_the_time_left():
    left: list[float] = []
    waited(PENDING, TOKEN, interval=2.0, expires_in=100.0, tick=left.append)
    assert left == [100, 99, 98, 97]


def test_the_real_server_words_are_understood(scripted, server):
    scripted.on(
        "/token",
        Answer(400, body={"error": "authorization_pending"}),
        Answer(400, body={"error": "slow_down"}),
        Answer(200, body={"error": "authorization_pending"}),  # as GitHub answers
        Answer(body=ISSUED),
    )
    clock = Clock(1000.0)
    authorization = DeviceAuthorization("device-1", "USER", "https://example.com", interval=1)
    token = await_token(server, authorization, scopes=["repo"], clock=clock, sleep=clock.sleep)
    assert token.access_token == "access-1"
    assert token.scopes == ("repo",)
    assert clock.now == 1000 + 1 + 1 + 6 + 6
    form = scripted.asked("/token")[0].form
    assert form == {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "device-1"}
