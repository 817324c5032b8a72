"""``oauth_login`` and ``oauth_logout``: people at a terminal, at a real server, in processes of their own."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta

import keyring as library
import pytest
from keyring.backends import null

from oauth_connect import signals
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.flows import session_for_keyring
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.protocol.device import SLOW_DOWN
from oauth_connect.stores import keyring
from tests.management.conftest import OTHER_KEY, finished
from tests.servers.scripted import Answer
from tests.support import keyrings
from tests.support.person import Person
from tests.support.visitor import query_of
from tests.support.waiting import TIMEOUT

if os.name == "posix":
    import pty

pytestmark = pytest.mark.django_db(transaction=True)

BEGUN = {
    "device_code": "device-1",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://example.com/device",
    "expires_in": 1800,
    "interval": 1,
}
COUNT = re.compile(r"Waiting for you: (\d\d:\d\d) left")
NO_IDENTITY = {"identity": {"source": "none"}}


@pytest.fixture
def terminal(codeyard, configure):
    """Codeyard, with the client of command-line tools in the settings beside the site's."""
    configure(PROVIDERS={"codeyard": codeyard.device_entry(), "site": codeyard.entry()})
    return codeyard


@pytest.fixture
def device(scripted, scripted_entry, configure):
    """A scripted server that has the device flow."""
    entry = {**scripted_entry, "device_authorization_endpoint": f"{scripted.url}/device", **NO_IDENTITY}
    configure(PROVIDERS={"scripted": entry})
    scripted.on("/device", Answer(body=BEGUN))
    return scripted


@pytest.fixture
def device_with_accounts(device, configure):
    """One that is asked at ``/user`` whose token it is."""
    entry = {
        "client_id": "client",
        "token_endpoint": f"{device.url}/token",
        "device_authorization_endpoint": f"{device.url}/device",
        "revocation_endpoint": f"{device.url}/revoke",
        "userinfo_endpoint": f"{device.url}/user",
    }
    configure(PROVIDERS={"scripted": entry})
    device.on("/revoke", Answer())
    return device


@pytest.fixture
def browser(monkeypatch):
    """A browser of this machine that signs in at Codeyard and allows."""
    monkeypatch.setenv("BROWSER", f"{sys.executable} -m tests.support.person %s")


def shown(process):
    """Return address and code, once they have been printed."""
    opened = process.stdout.readline().split()
    code = process.stdout.readline().split()
    assert (opened[0], code[:4]) == ("Open", ["and", "enter", "the", "code"])
    return opened[1], code[4]


# --- the device flow ------------------------------------------------------------------------------


@pytest.mark.compliance("A37")
def test_a_device_login_becomes_the_users_connection_and_serves_calls(terminal, user, start):
    process = start("oauth_login", "codeyard", "--user", "grace")
    address, code = shown(process)
    assert address == f"{terminal.url}/o/device/"
    page = Person().answer_device(address, code)
    assert "authorized" in page.text
    run = finished(process)
    assert (run.status, run.err) == (0, "")
    assert run.lines[-1] == "Logged in at Codeyard as ada. The token is stored as a connection of grace."
    connection = Connection.objects.get()
    assert connection.user == connection.connected_by == user
    assert (connection.grant, connection.account_label) == ("device_code", "ada")
    assert connection.scopes == ["profile", "repositories", "activity"]
    assert connection.session().get("repositories").status_code == 200
    terminal.expire()
    connection.refresh()
    assert connection.session().get("user").json()["login"] == "ada"


def test_the_tokens_of_an_unusable_response_are_revoked(device_with_accounts, command, user):
    device_with_accounts.on("/token", Answer(body={"refresh_token": "new-refresh", "token_type": "Bearer"}))
    run = command("oauth_login", "scripted", "--user", "grace")
    assert run.status == 1
    (request,) = device_with_accounts.asked("/revoke")
    assert request.form["token"] == "new-refresh"
    assert not Connection.objects.exists()


def test_a_refused_device_keeps_nothing(terminal, user, start):
    process = start("oauth_login", "codeyard", "--user", "grace", "--json")
    process_error = iter(process.stderr.readline, "")
    address = next(process_error).split()[1]
    code = next(process_error).split()[-1]
    Person().answer_device(address, code, allow=False)
    run = finished(process)
    assert run.status == 1
    assert run.document == {"error": "Access was denied. Nothing was stored."}
    assert not Connection.objects.exists()


def test_only_the_user_who_entered_the_code_can_answer(terminal, user, start):
    process = start("oauth_login", "codeyard", "--user", "grace")
    address, code = shown(process)
    consent = Person("ada").enter_code(address, code)
    assert Person("linus").open(consent.url).status == 404
    process.kill()
    process.communicate()


@pytest.mark.compliance("D53")
def test_waiting_continues_through_pending_slow_down_and_a_lost_network(device, issues, user, process):
    issued = device.script["/token"][0]
    device.on("/device", Answer(body={**BEGUN, "interval": 0.1}))
    device.on(
        "/token",
        Answer(400, body={"error": "authorization_pending"}),
        Answer(cut=-1),
        Answer(503),
        Answer(400, body={"error": "slow_down"}),
        issued,
    )
    began = time.monotonic()
    run = process("oauth_login", "scripted", "--user", "grace")
    assert run.status == 0, run.err
    assert len(device.asked("/token")) == 5
    assert time.monotonic() - began > SLOW_DOWN
    assert Connection.objects.get().grant == "device_code"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"error": "expired_token"}, "The code expired before it was used"),
        ({"error": "access_denied"}, "Access was denied"),
        ({"error": "invalid_client"}, "does not accept this site's client"),
        ({"access_token": "access", "token_type": "mac"}, "unknown token_type"),
    ],
)
def test_the_reason_of_the_end_is_printed_and_nothing_is_stored(device, user, command, answer, told):
    device.on("/token", Answer(400 if "error" in answer else 200, body=answer))
    run = command("oauth_login", "scripted", "--user", "grace")
    assert run.status == 1
    assert told in run.err
    assert len(device.asked("/token")) == 1
    assert not Connection.objects.exists()


def test_ctrl_c_ends_it_with_130_and_no_traceback(device, user, start):
    device.on("/token", Answer(400, body={"error": "authorization_pending"}))
    process = start("oauth_login", "scripted", "--user", "grace")
    shown(process)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    run = finished(process)
    assert run.status == 130
    assert "Nothing was stored" in run.err
    assert "Traceback" not in run.err


def test_ctrl_c_once_there_is_a_token_revokes_it(device_with_accounts, issues, user, start):
    answers = threading.Event()
    device_with_accounts.on("/user", Answer(body={"sub": "1"}, hold=answers))
    process = start("oauth_login", "scripted", "--user", "grace")
    device_with_accounts.wait_for("/user")
    process.send_signal(signal.SIGINT)
    answers.set()
    run = finished(process)
    assert run.status == 130
    assert "Nothing was stored" in run.err
    assert len(device_with_accounts.asked("/revoke")) == 1
    assert not Connection.objects.exists()


@pytest.mark.compliance("A37")
def test_escapes_of_a_server_do_not_reach_the_terminal(device, issues, user, command):
    device.on("/device", Answer(body={**BEGUN, "user_code": "AB\x1b[31mCD\x07\u202e"}))
    run = command("oauth_login", "scripted", "--user", "grace")
    assert run.status == 0
    assert not set(run.out) & {"\x1b", "\x07", "\u202e"}
    assert "AB[31mCD" in run.out


def test_no_token_and_no_code_of_the_server_is_ever_printed(device, issues, canary, user, process):
    run = process("oauth_login", "scripted", "--user", "grace", "--verbosity", "3", "--json")
    assert run.status == 0, run.err
    assert canary not in run.out + run.err
    assert "device-1" not in run.out + run.err


def test_what_is_beyond_the_providers_scopes_is_asked_for(device, issues, user, command):
    command("oauth_login", "scripted", "--user", "grace", "--scope", "repo", "--scope", "gist")
    assert device.asked("/device")[0].form["scope"] == "repo gist"


def test_a_token_of_an_unknown_account_is_revoked_and_not_kept(device_with_accounts, issues, user, command):
    device_with_accounts.on("/user", Answer(body={"name": "nobody"}))
    run = command("oauth_login", "scripted", "--user", "grace")
    assert run.status == 1
    assert "did not say which account" in run.err
    assert device_with_accounts.asked("/revoke")
    assert not Connection.objects.exists()


@pytest.mark.compliance("A39")
@pytest.mark.parametrize(("subject", "status"), [("ada", 0), ("another", 1)])
def test_userinfo_and_id_token_of_a_device_speak_of_one_account(
    device_with_accounts, settings, configure, issues, user, command, subject, status
):
    issuer = device_with_accounts.url
    entry = settings.OAUTH_CONNECT["PROVIDERS"]["scripted"]
    configure(PROVIDERS={"scripted": {**entry, "issuer": issuer, "scopes": ["openid"]}})
    claims = {"iss": issuer, "aud": "client", "exp": time.time() + 60, "sub": "ada"}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    issues(id_token=f"e30.{payload}.signature")
    device_with_accounts.on("/user", Answer(body={"sub": subject}))

    run = command("oauth_login", "scripted", "--user", "grace")

    assert run.status == status, run.err
    assert Connection.objects.count() == 1 - status
    assert len(device_with_accounts.asked("/revoke")) == status


def test_connecting_at_a_terminal_sends_the_signal(device, issues, user, command):
    heard = []

    def receive(connection, **kwargs):
        heard.append(connection.provider)

    signals.connected.connect(receive)
    command("oauth_login", "scripted", "--user", "grace")
    signals.connected.disconnect(receive)
    assert heard == ["scripted"]


# --- the browser ----------------------------------------------------------------------------------


@pytest.mark.compliance("A38")
def test_a_login_in_this_machines_browser(terminal, user, browser, process):
    run = process("oauth_login", "site", "--user", "grace")
    assert run.status == 0, run.err
    assert run.lines[-1] == "Logged in at Codeyard as ada. The token is stored as a connection of grace."
    connection = Connection.objects.get()
    assert connection.grant == "authorization_code"
    assert connection.redirect_uri.startswith("http://127.0.0.1:")
    assert "code_challenge_method=S256" in run.out
    connection.refresh()


def test_the_address_can_be_opened_by_hand(terminal, user, start):
    process = start("oauth_login", "site", "--user", "grace", "--no-open")
    process.stdout.readline()
    address = process.stdout.readline().strip()
    person = Person()
    page = person.press(person.open(address), "Allow")
    assert "Back to the terminal" in page.text
    assert finished(process).status == 0


@pytest.mark.compliance("A8")
def test_an_answer_of_another_issuer_is_refused_and_no_code_is_sent(terminal, user, start):
    process = start("oauth_login", "site", "--user", "grace", "--no-open")
    process.stdout.readline()
    state, redirect_uri = state_and_redirect(process.stdout.readline().strip())
    Person().browser.get(f"{redirect_uri}?code=stolen&state={state}&iss=https://evil.test")
    run = finished(process)
    assert run.status == 1
    assert "another server" in run.err
    assert not terminal.stats["token_requests"]


@pytest.mark.compliance("A1")
def test_an_answer_with_another_state_is_none(terminal, user, start):
    process = start("oauth_login", "site", "--user", "grace", "--no-open")
    process.stdout.readline()
    address = process.stdout.readline().strip()
    _, redirect_uri = state_and_redirect(address)
    assert Person().browser.get(f"{redirect_uri}?code=stolen&state=guessed").status == 400
    person = Person()
    person.press(person.open(address), "Allow")
    assert finished(process).status == 0


@pytest.mark.compliance("A4")
def test_a_refusal_in_the_browser_is_reported(terminal, user, start):
    process = start("oauth_login", "site", "--user", "grace", "--no-open")
    process.stdout.readline()
    person = Person()
    person.press(person.open(process.stdout.readline().strip()), "Cancel")
    run = finished(process)
    assert run.status == 1
    assert "You did not give access" in run.err


@pytest.fixture
def by_browser(scripted_entry, configure):
    """A provider without the device flow and without userinfo."""
    configure(PROVIDERS={"scripted": {**scripted_entry, **NO_IDENTITY}})


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_the_redirect_uri_is_the_one_that_is_registered(by_browser, scripted, issues, user, start, free_port):
    where = ["--host", "localhost", "--port", str(free_port), "--path", "/signed/in"]
    registered = f"http://localhost:{free_port}/signed/in"
    process = start("oauth_login", "scripted", "--user", "grace", "--no-open", "--json", *where)
    process.stderr.readline()
    state, redirect_uri = state_and_redirect(process.stderr.readline().strip())
    assert process.stderr.readline() == f"The redirect URI to register at the provider: {registered}\n"
    assert redirect_uri == registered
    Person().browser.get(f"{redirect_uri}?code=code&state={state}")
    run = finished(process)
    assert (run.status, run.document["redirect_uri"]) == (0, registered)
    assert scripted.asked("/token")[0].form["redirect_uri"] == registered
    assert Connection.objects.get().redirect_uri == registered


@pytest.mark.parametrize(
    ("where", "uri"),
    [
        ([], "http://127.0.0.1/callback"),
        (["--host", "localhost"], "http://localhost/callback"),
        (["--host", "::1", "--port", "8400"], "http://[::1]:8400/callback"),
        (["--port", "8400", "--path", "/"], "http://127.0.0.1:8400/"),
    ],
)
def test_a_dry_run_says_what_to_register(by_browser, scripted, user, command, where, uri):
    run = command("oauth_login", "scripted", "--user", "grace", "--dry-run", *where)
    assert f"The redirect URI to register at the provider: {uri}" in run.out
    assert ("with any port" in run.out) is ("--port" not in where)
    document = command("oauth_login", "scripted", "--user", "grace", "--dry-run", "--json", *where).document
    assert document["redirect_uri"] == uri
    assert not scripted.requests


def test_a_port_in_use_is_an_error_that_names_it(by_browser, scripted, user, command):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        run = command("oauth_login", "scripted", "--user", "grace", "--no-open", "--port", port)
    assert run.status == 2
    assert f"Port {port} of 127.0.0.1 cannot be used" in run.err
    assert "choose another port" in run.err


@pytest.mark.parametrize(
    "where",
    [
        ["--host", "0.0.0.0"],
        ["--host", "evil.test"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--path", "callback"],
        ["--path", "/a?b"],
        ["--path", "//a"],
        ["--path", "/a//b"],
    ],
)
def test_a_redirect_beyond_this_machine_is_refused(by_browser, user, command, where):
    run = command("oauth_login", "scripted", "--user", "grace", "--dry-run", f"{where[0]}={where[1]}")
    assert run.status != 0
    assert where[1] in run.err


def test_the_device_flow_has_no_redirect_uri(device, user, command):
    run = command("oauth_login", "scripted", "--user", "grace", "--port", "8400")
    assert (run.status, "belong to --browser" in run.err) == (2, True)


def test_the_providers_word_is_printed(by_browser, scripted, user, start):
    process = start("oauth_login", "scripted", "--user", "grace", "--no-open", "--json")
    process.stderr.readline()
    state, redirect_uri = state_and_redirect(process.stderr.readline().strip())
    Person().browser.get(f"{redirect_uri}?error=invalid_scope&error_description=no+such+scope&state={state}")
    run = finished(process)
    assert run.status == 1
    document = run.document
    assert (document["code"], document["provider_error"]) == ("authorization_failed", "invalid_scope")
    for part in ("invalid_scope", "no such scope", "scopes", redirect_uri):
        assert part in document["error"]
        assert part in run.err


@pytest.mark.compliance("mcp-remote")
@pytest.mark.parametrize("path", ["/$(touch owned)", "/`id`", "/a'b"])
def test_an_address_that_a_shell_could_read_is_not_opened(
    scripted_entry, scripted, configure, user, browser, command, path
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "authorization_endpoint": f"{scripted.url}{path}"}})
    run = command("oauth_login", "scripted", "--user", "grace")
    assert run.status == 1
    assert "not opened" in run.err
    assert not scripted.requests


def state_and_redirect(address):
    query = query_of(address)
    return query["state"], query["redirect_uri"]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["scripted"], "--user USERNAME stores it as that user's connection, --store keyring"),
        (["scripted", "--user", "nobody"], "There is no user 'nobody'"),
        (["unknown", "--user", "grace"], "No provider 'unknown'"),
        (["scripted", "--user", "grace", "--device"], "scripted.device_authorization_endpoint: missing"),
        (["scripted", "--user", "grace", "--variable", "shop=x"], "scripted.variables.shop"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_setting(
    scripted_provider, scripted, user, command, arguments, told
):
    run = command("oauth_login", *arguments)
    assert run.status == 2
    assert told in run.err
    assert not scripted.requests


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"authorization_endpoint": ""}, "scripted.authorization_endpoint: missing"),
        ({"authorize": {"response_mode": "form_post"}}, "scripted.authorize.response_mode"),
        (
            {"authorize": {"code_challenge_method": "none", "without_pkce_because": "old"}},
            "scripted.authorize.code_challenge_method",
        ),
        ({"enabled": False}, "scripted.enabled"),
    ],
)
def test_a_provider_that_cannot_answer_to_a_terminal(scripted_entry, configure, user, command, changes, told):
    configure(PROVIDERS={"scripted": {**scripted_entry, **changes}})
    run = command("oauth_login", "scripted", "--user", "grace")
    assert run.status == 2
    assert told in run.err
    foretold = command("oauth_login", "scripted", "--user", "grace", "--dry-run")
    assert (foretold.status, foretold.out, foretold.err) == (2, "", run.err)


def test_a_deactivated_user_gets_no_connection(scripted_provider, user, command):
    type(user).objects.update(is_active=False)
    run = command("oauth_login", "scripted", "--user", "grace")
    assert (run.status, "deactivated" in run.err) == (2, True)


def test_a_dry_run_sends_nothing(device, user, command):
    run = command("oauth_login", "scripted", "--user", "grace", "--dry-run")
    assert run.status == 0
    assert run.lines == [
        "Would log in at scripted (device flow, scopes: none) for grace.",
        "Nothing was sent.",
    ]
    assert not device.requests


# --- logging out ----------------------------------------------------------------------------------


def test_logging_out_revokes_and_forgets(terminal, user, command):
    granted = Connection.objects.store(
        owner=user, provider="site", token_response=terminal.grant(), account_id="7"
    )
    run = command("oauth_logout", "site", "--user", "grace")
    assert (run.status, run.err) == (0, "")
    assert terminal.stats["revocations"] == 1
    granted.refresh_from_db()
    assert (granted.status, granted.sealed_token) == ("revoked", None)
    again = command("oauth_logout", "site", "--user", "grace")
    assert (again.status, again.out) == (0, "grace has no connection to site.\n")


def test_a_revocation_that_could_not_be_sent_is_queued_and_reported(
    scripted_provider, scripted, make_connection, command
):
    scripted.on("/revoke", Answer(503))
    make_connection()
    run = command("oauth_logout", "scripted", "--user", "grace", "--json")
    assert run.status == 1
    assert run.document["outcome"] == "pending"
    assert PendingRevocation.objects.count() == 1


def test_a_token_that_no_key_opens_is_not_said_to_be_revoked(
    scripted_provider, scripted, make_connection, command, configure
):
    make_connection()
    configure(KEYS=[OTHER_KEY])
    run = command("oauth_logout", "scripted", "--user", "grace")
    assert run.status == 0
    assert "No configured key opens the token, so it could not be revoked" in run.out
    assert Connection.objects.get().status == "revoked"
    assert not scripted.requests


def test_of_several_accounts_one_is_named(scripted_provider, scripted, make_connection, command):
    scripted.on("/revoke", Answer())
    make_connection()
    make_connection()
    run = command("oauth_logout", "scripted", "--user", "grace")
    assert (run.status, "--account" in run.err) == (2, True)
    assert command("oauth_logout", "scripted", "--user", "grace", "--account", "2").status == 0
    assert Connection.objects.get(status="active").account_id == "1"


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_an_account_that_the_user_does_not_have_is_refused_with_those_that_there_are(
    scripted_provider, scripted, user, make_connection, command, option
):
    make_connection(account_id="42", account_label="Ada")
    make_connection(account_id="43")
    run = command("oauth_logout", "scripted", "--user", "grace", "--account", "9", *option)
    assert (run.status, run.out) == (2, "")
    assert run.err == "grace has no account '9' at scripted. Connected: 42 (Ada), 43."
    assert not scripted.requests
    Connection.objects.all().delete()
    again = command("oauth_logout", "scripted", "--user", "grace", "--account", "9")
    assert (again.status, again.out) == (0, "grace has no connection to scripted.\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["scripted"], "--user USERNAME disconnects"),
        (["scripted", "--user", "nobody"], "There is no user 'nobody'"),
        (["unknown", "--user", "grace"], "No provider 'unknown'"),
    ],
)
def test_logging_out_of_what_is_not_there_is_refused(scripted_provider, user, command, arguments, told):
    run = command("oauth_logout", *arguments)
    assert (run.status, told in run.err) == (2, True)


def test_a_dry_run_disconnects_nothing(scripted_provider, scripted, make_connection, command):
    make_connection()
    assert command("oauth_logout", "scripted", "--user", "grace", "--dry-run").status == 0
    assert Connection.objects.filter(status="active").count() == 1
    assert not scripted.requests


# --- on a terminal --------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_on_a_terminal_there_is_a_qr_code_and_a_live_countdown(device, user, start_on_terminal):
    complete = "https://example.com/device?user_code=WDJB-MJHT"
    device.on("/device", Answer(body={**BEGUN, "verification_uri_complete": complete}))
    device.on("/token", Answer(400, body={"error": "authorization_pending"}))
    seen = start_on_terminal("oauth_login", "scripted", "--user", "grace").until_counted(3)
    assert "▄" in seen
    counts = COUNT.findall(seen)
    assert re.fullmatch(r"30:00|29:\d\d", counts[0])
    assert counts == sorted(counts, reverse=True)
    assert "\r" in seen


@pytest.fixture
def start_on_terminal(start, monkeypatch):
    """Start a command whose standard output is a pseudo-terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    leader, follower = pty.openpty()

    class OnTerminal:
        def __init__(self, process):
            self.process = process

        def until_counted(self, different):
            """Return what is shown until so many different counts have been."""
            seen, give_up = "", time.monotonic() + TIMEOUT
            while len(set(COUNT.findall(seen))) < different:
                left = max(0.0, give_up - time.monotonic())
                assert select.select([leader], [], [], left)[0], seen
                seen += os.read(leader, 4096).decode("utf-8", "replace")
            return seen

    yield lambda *arguments: OnTerminal(start(*arguments, stdout=follower))
    os.close(leader)
    os.close(follower)


# --- one account ----------------------------------------------------------------------------------


@pytest.fixture
def second_login(device, issues, configure, settings, make_connection):
    """The user has an account at a provider that allows one. The next login is with another."""
    (entry,) = settings.OAUTH_CONNECT["PROVIDERS"].values()
    identity = {"source": "token_response", "id": ["account"]}
    configure(PROVIDERS={"scripted": {**entry, "one_account": True, "identity": identity}})
    make_connection(account_id="1", account_label="ada@example.com")
    device.on("/device", Answer(body={**BEGUN, "interval": 0.1}))
    device.on("/revoke", Answer())
    issues(account="2")


@pytest.fixture
def types(monkeypatch):
    """Let a user at a terminal type a line."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    return lambda text: monkeypatch.setattr("sys.stdin", Terminal(text))


def active():
    return [row.account_id for row in Connection.objects.filter(status="active")]


def test_without_a_terminal_another_account_replaces_none(second_login, device, command):
    run = command("oauth_login", "scripted", "--user", "grace")

    assert run.status == 2
    assert "it replaces ada@example.com" in run.err
    assert "--replace" in run.err
    assert device.requests == []
    assert active() == ["1"]


def test_told_to_replace_another_account_takes_the_place(second_login, command):
    assert command("oauth_login", "scripted", "--user", "grace", "--replace").status == 0
    assert active() == ["2"]


@pytest.mark.parametrize(("typed", "status", "left"), [("y\n", 0, "2"), ("\n", 1, "1"), ("", 130, "1")])
def test_at_a_terminal_the_user_is_asked_before_an_account_is_replaced(
    second_login, types, command, typed, status, left
):
    types(typed)

    assert command("oauth_login", "scripted", "--user", "grace").status == status
    assert active() == [left]


# --- the keyring ----------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A keyring for the processes of a test, and for the test itself."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv(keyrings.FILE, str(tmp_path / "keyring.json"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "tests.support.keyrings.SmallKeyring")
    before = library.get_keyring()
    library.set_keyring(keyrings.SmallKeyring())
    yield library.get_keyring()
    library.set_keyring(before)


def log_in(start, *options):
    process = start("oauth_login", "codeyard", "--store", "keyring", *options)
    Person().answer_device(*shown(process))
    return finished(process)


def test_a_login_into_the_keyring_serves_this_machines_tools_until_the_logout(
    terminal, small, start, process
):
    run = log_in(start)
    assert (run.status, run.err) == (0, "")
    assert (
        run.lines[-1] == "Logged in at Codeyard as ada. The token is stored in the keyring of this machine."
    )
    assert not Connection.objects.exists()
    http = session_for_keyring("codeyard")
    assert http.get("user").json()["login"] == "ada"
    terminal.expire()
    keep_aged(http)
    assert session_for_keyring("codeyard").get("repositories").status_code == 200
    assert terminal.refreshes == 1
    out = process("oauth_logout", "codeyard", "--store", "keyring")
    assert (out.status, out.lines) == (0, ["Logged out of Codeyard. The token is revoked and deleted."])
    assert terminal.stats["revocations"] == 1
    assert small.entries == {}
    with pytest.raises(ReauthorizationRequired, match="oauth_login codeyard --store keyring"):
        session_for_keyring("codeyard")


def keep_aged(http):
    """Let the token in the keyring look as if it had been got an hour ago."""
    provider = http.token_auth.source.provider
    store = keyring.KeyringStore(provider)
    token, login = store.read().token, store.login()
    aged = replace(token, obtained_at=token.obtained_at - timedelta(hours=1), expires_at=token.obtained_at)
    store.put(aged, login, None)


def test_no_database_is_needed_for_the_keyring(device, issues, small, command, django_db_blocker):
    with django_db_blocker.block():
        assert command("oauth_login", "scripted", "--store", "keyring").status == 0
        device.on("/revoke", Answer())
        assert command("oauth_logout", "scripted", "--store", "keyring").status == 0
        again = command("oauth_logout", "scripted", "--store", "keyring", "--json")
    assert (again.status, again.document["outcome"]) == (0, "absent")


def test_a_keyring_that_must_not_hold_a_token_is_refused_before_the_login(device, monkeypatch, command):
    before = library.get_keyring()
    library.set_keyring(null.Keyring())
    try:
        run = command("oauth_login", "scripted", "--store", "keyring")
        out = command("oauth_logout", "scripted", "--store", "keyring", "--json")
    finally:
        library.set_keyring(before)
    assert run.status == 2
    assert "stores nothing" in run.err
    assert out.status == 2
    assert "stores nothing" in out.document["error"]
    assert not device.requests


def test_a_logout_that_cannot_reach_the_provider_says_so_and_can_be_repeated(device, issues, small, command):
    command("oauth_login", "scripted", "--store", "keyring")
    device.on("/revoke", Answer(503), Answer())
    run = command("oauth_logout", "scripted", "--store", "keyring")
    assert (run.status, "no longer used. Run the command again" in run.err) == (1, True)
    assert command("oauth_logout", "scripted", "--store", "keyring").status == 0


def test_a_token_goes_into_one_place_only(scripted_provider, user, process):
    run = process("oauth_login", "scripted", "--user", "grace", "--store", "keyring")
    assert (run.status, "not allowed with" in run.err) == (2, True)


def test_a_dry_run_forgets_nothing(device, issues, small, command):
    command("oauth_login", "scripted", "--store", "keyring")
    before = small.entries
    run = command("oauth_logout", "scripted", "--store", "keyring", "--dry-run")
    assert run.lines == ["Would log out of scripted: one token on this machine."]
    assert small.entries == before


# --- one account with several sites -------------------------------------------------------------


@pytest.fixture
def with_sites(device, scripted_entry, configure):
    """A server whose accounts have access to two sites."""
    entry = {
        **scripted_entry,
        **NO_IDENTITY,
        "device_authorization_endpoint": f"{device.url}/device",
        "accounts": {"endpoint": f"{device.url}/sites", "variable": "site"},
        "variables": {"site": {"source": "accounts", "pattern": "[a-z0-9-]+"}},
    }
    configure(PROVIDERS={"scripted": entry})
    device.on("/token", Answer(body={"access_token": "a", "refresh_token": "r", "token_type": "Bearer"}))
    device.on("/sites", Answer(body=[{"id": "s-1", "name": "Acme"}, {"id": "s-2", "name": "Mills"}]))
    device.on("/revoke", Answer())
    return device


@pytest.mark.parametrize("name", ["s-2", "Mills"])
def test_a_site_is_named_on_the_command_line(command, user, with_sites, name):
    assert command("oauth_login", "scripted", "--user", "grace", "--site", name).status == 0
    assert Connection.objects.get().variables == {"site": "s-2"}


@pytest.mark.parametrize("arguments", [[], ["--site", "nowhere"], ["--json"]])
def test_without_a_site_the_login_names_them_and_keeps_nothing(command, user, with_sites, arguments):
    run = command("oauth_login", "scripted", "--user", "grace", *arguments)
    assert run.status == 1
    assert "Acme, Mills. Name one with --site." in run.out + run.err
    assert not Connection.objects.exists()
    assert len(with_sites.asked("/revoke")) == 1


TWINS = [{"id": "s-1", "name": "Acme"}, {"id": "s-2", "name": "Acme"}, {"id": "s-3", "name": "s-1"}]


@pytest.mark.parametrize(("name", "site"), [("s-2", "s-2"), ("s-1", "s-1")])
def test_an_id_names_a_site_before_a_name_does(command, user, with_sites, name, site):
    with_sites.on("/sites", Answer(body=TWINS[::-1]))
    assert command("oauth_login", "scripted", "--user", "grace", "--site", name).status == 0
    assert Connection.objects.get().variables == {"site": site}


def test_a_name_that_several_sites_have_chooses_none(command, user, with_sites):
    with_sites.on("/sites", Answer(body=TWINS))
    run = command("oauth_login", "scripted", "--user", "grace", "--site", "Acme")
    assert run.status == 1
    assert "Acme (s-1), Acme (s-2), s-1. Name one" in run.out + run.err
    assert not Connection.objects.exists()


def test_at_a_terminal_the_end_of_the_input_chooses_none(command, user, with_sites, monkeypatch):
    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ended)
    run = command("oauth_login", "scripted", "--user", "grace")
    assert run.status == 1
    assert "Name one with --site." in run.out + run.err
    assert len(with_sites.asked("/revoke")) == 1


@pytest.mark.parametrize(("answer", "site"), [("2", "s-2"), ("Acme", "s-1"), ("9", None)])
def test_at_a_terminal_the_user_chooses(command, user, with_sites, monkeypatch, answer, site):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    run = command("oauth_login", "scripted", "--user", "grace")
    assert [connection.variables["site"] for connection in Connection.objects.all()] == [site] * bool(site)
    assert "  1  Acme" in run.out
