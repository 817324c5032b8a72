"""Tools without Django share one token: one refresh, the rotated one written back before anybody uses it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from oauth_connect.engine import logged_once
from oauth_connect.errors import (
    InvalidProvider,
    KeyringUnavailable,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores import keyring
from tests.servers.scripted import Answer
from tests.stores.keyring.script import Script
from tests.support.aging import long_back_offs
from tests.support.keyrings import SmallKeyring
from tests.support.tokens import EXPIRED, id_token
from tests.support.waiting import TIMEOUT, eventually

OLD = 65  # seconds
ROTATED = {"access_token": "access-1", "refresh_token": "row-1", "token_type": "Bearer", "expires_in": 3600}


@pytest.fixture
def kept(entry, token, keyring):
    """A token that has run out, in the keyring."""
    provider = Provider.from_mapping("rotating", entry)
    store.keep(provider, token(age=EXPIRED))
    return provider


store = keyring  # the fixture of this name is a back end


@pytest.fixture
def keep(small, provider, token):
    def put(**options):
        store.keep(provider, token(**options))
        return provider

    return put


def row(provider):
    return store.KeyringStore(provider).read()


# --- between processes ------------------------------------------------------------------------------


def test_a_script_without_django_refreshes_and_calls(kept, entry, rotating):
    assert Script(entry).go().results() == [[200, False]]
    assert rotating.spent == {"row-0": 1}
    assert row(kept).token.refresh_token == "row-1"
    assert Script(entry).go().results() == [[200, False]]
    assert rotating.spent == {"row-0": 1}, "the token that was written back is used"


def test_a_script_without_django_refreshes_and_calls_with_httpx(kept, entry, rotating):
    assert Script(entry, "httpx", threads=2).go().results() == [[200, False]] * 2
    assert rotating.spent == {"row-0": 1}
    assert row(kept).token.refresh_token == "row-1"


def test_of_two_that_found_the_lease_free_one_gets_it(keep):
    first, second = (store.KeyringStore(keep(age=EXPIRED)) for _ in range(2))
    seen = second.read()
    assert first.claim(first.read(), "first", 30)
    assert not second.claim(seen, "second", 30)


@pytest.mark.compliance("D25")
def test_many_processes_and_threads_spend_one_refresh_token_once(kept, entry, rotating):
    scripts = [Script(entry, threads=4) for _ in range(4)]
    for script in scripts:
        script.go()
    results = [result for script in scripts for result in script.results()]
    assert results == [[200, False]] * 16
    assert rotating.spent == {"row-0": 1}
    assert row(kept).version == 1


def test_who_is_killed_while_the_provider_thinks_leaves_a_token_that_others_can_use(kept, entry, rotating):
    rotating.hang("row-0")
    script = Script(entry).go()
    eventually(lambda: rotating.hanging, "the script's request")
    script.process.kill()
    script.process.communicate()
    rotating.hang()
    assert row(kept).leased
    store_of = store.KeyringStore(kept)
    head = store_of._entry.head()
    store_of._entry.change(head, {**head.state, "lease_until": time.time() - 1})
    assert Script(entry).go().results() == [[200, False]]
    assert rotating.spent == {"row-0": 1}


# --- in one process ---------------------------------------------------------------------------------


def test_a_valid_token_costs_one_look_at_the_keyring(keep, scripted, small):
    http = store.session_for(keep())
    scripted.on("/api/x", Answer())
    for _ in range(3):
        http.get("x")
    reads = []
    original = SmallKeyring.get_password
    SmallKeyring.get_password = lambda *args: reads.append(args) or original(*args)
    try:
        http.get("x")
    finally:
        SmallKeyring.get_password = original
    assert reads == []


def test_without_a_login_there_is_no_token(small, provider):
    with pytest.raises(ReauthorizationRequired, match="oauth_login scripted --store keyring") as told:
        store.session_for(provider)
    assert told.value.reason == "not_connected"


def test_another_client_has_another_entry(keep, scripted_entry):
    keep()
    other = Provider.from_mapping("scripted", {**scripted_entry, "client_id": "another"})
    with pytest.raises(ReauthorizationRequired):
        store.session_for(other)


def test_another_server_of_the_same_name_never_sees_the_refresh_token(keep, scripted, scripted_entry):
    keep(age=EXPIRED)
    moved = {**scripted_entry, "token_endpoint": "https://evil.test/token"}
    http = store.session_for(Provider.from_mapping("scripted", moved))
    with pytest.raises(ReauthorizationRequired, match="another server") as told:
        http.get("x")
    assert told.value.reason == "client_changed"
    assert store.forget(Provider.from_mapping("scripted", moved)) == "refused"
    assert not scripted.requests


@pytest.mark.parametrize(
    "answer", [Answer(401, {"error": "invalid_client"}), Answer(401)], ids=["named", "bare"]
)
def test_a_logout_of_a_client_without_a_secret_ends_where_the_server_wants_one(
    small, token, scripted, scripted_entry, answer
):
    provider = Provider.from_mapping("scripted", {**scripted_entry, "client_secret": ""})
    store.keep(provider, token())
    scripted.on("/revoke", answer)
    assert store.forget(provider) == "refused"
    assert store.forget(provider) == "absent"
    assert len(scripted.asked("/revoke")) == 1


def test_a_logout_with_a_wrong_secret_can_be_repeated(keep, scripted):
    provider = keep()
    scripted.on("/revoke", Answer(401, {"error": "invalid_client"}), Answer(200))
    assert [store.forget(provider), store.forget(provider)] == ["pending", "revoked"]


@pytest.fixture
def moving(small, token, scripted, scripted_entry):
    """A token at the instance "old", whose refresh names "new"."""
    instance = {"source": "token_response", "field": "instance_url", "pattern": r"[a-z]+"}
    entry = {**scripted_entry, "api_base_url": f"{scripted.url}/{{instance}}/"}
    provider = Provider.from_mapping("scripted", {**entry, "variables": {"instance": instance}})
    store.keep(provider, token(age=OLD), variables={"instance": "old"})
    scripted.on("/token", Answer(body={**ROTATED, "instance_url": "new"}))
    scripted.on("/old/x", Answer(401))
    scripted.on("/new/x", Answer(200))
    return provider


def test_a_refresh_that_names_another_instance_moves_the_session_and_later_ones(moving, scripted):
    http = store.session_for(moving)
    assert [http.get("x").status_code, http.get("x").status_code] == [200, 200]
    assert store.session_for(moving).get("x").status_code == 200
    assert (len(scripted.asked("/old/x")), len(scripted.asked("/new/x"))) == (1, 3)


def test_a_move_that_another_process_met_moves_the_session(moving, scripted):
    http = store.session_for(moving)
    http.token_auth.source.current()
    assert store.session_for(moving).get("x").status_code == 200
    assert http.get("x").status_code == 200
    assert len(scripted.asked("/token")) == 1


def test_an_instance_that_does_not_fit_is_not_followed(moving, scripted, caplog):
    scripted.on("/token", Answer(body={**ROTATED, "instance_url": "evil.example/"}))
    scripted.on("/old/x", Answer(401), Answer(200))
    assert store.session_for(moving).get("x").status_code == 200
    assert "scripted.variables.instance" in caplog.text


def test_a_401_brings_one_refresh_and_one_retry(keep, scripted):
    provider = keep(age=OLD)
    scripted.on("/token", Answer(body=ROTATED))
    scripted.on("/api/x", Answer(401), Answer(200))
    assert store.session_for(provider).get("x").status_code == 200
    assert len(scripted.asked("/token")) == 1
    assert row(provider).token.access_token == "access-1"


def test_after_a_401_what_another_process_has_saved_is_used(keep, token, provider, scripted):
    http = store.session_for(keep(age=OLD))
    scripted.on("/api/x", Answer(200), Answer(401), Answer(200))
    http.get("x")
    store.keep(provider, token("row-5", access_token="access-5"))
    assert http.get("x").status_code == 200
    assert scripted.asked("/api/x")[-1].headers["Authorization"] == "Bearer access-5"
    assert not scripted.asked("/token")


def test_an_api_that_always_responds_401_causes_one_refresh(keep, scripted):
    provider = keep()
    scripted.on("/token", Answer(body=ROTATED))
    scripted.on("/api/x", Answer(401))
    for _ in range(3):
        assert store.session_for(provider).get("x").status_code == 401
    assert len(scripted.asked("/token")) == 1


def test_a_call_that_is_refused_again_waits_for_a_refresh_under_way(keep, token, scripted, monkeypatch):
    provider = keep(after_401=True)
    other, waits, peek = store.KeyringStore(provider), threading.Event(), store.KeyringStore.peek
    seen = other.read()
    assert other.claim(seen, "another", 30)
    monkeypatch.setattr(store.KeyringStore, "peek", lambda self: (peek(self), waits.set())[0])
    scripted.on("/api/x", Answer(401), Answer(200))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: store.session_for(provider).get("x").status_code)
        assert waits.wait(TIMEOUT)
        assert other.save(seen, "another", token("row-1", access_token="access-1"), None)
        assert call.result(TIMEOUT) == 200
    assert scripted.asked("/api/x")[-1].headers["Authorization"] == "Bearer access-1"
    assert not scripted.asked("/token")


def test_that_the_api_refuses_a_token_requested_for_it_is_logged_once(keep, scripted, caplog, monkeypatch):
    monkeypatch.setattr(logged_once, "_logged", {})
    provider = keep(after_401=True)
    scripted.on("/api/x", Answer(401))
    for _ in range(3):
        assert store.session_for(provider).get("x").status_code == 401
    assert [record.action for record in caplog.records] == ["refused_again"]
    assert not scripted.asked("/token")


def test_a_refresh_token_that_is_refused_marks_the_entry_and_asks_for_a_login(keep, scripted):
    provider = keep(age=EXPIRED)
    scripted.on("/token", Answer(400, body={"error": "invalid_grant"}))
    http = store.session_for(provider)
    for _ in range(2):
        with pytest.raises(ReauthorizationRequired, match="oauth_login scripted") as told:
            http.get("x")
        assert told.value.reason == "revoked"
    assert len(scripted.asked("/token")) == 1


def test_a_refusal_without_a_reason_is_a_failure_and_ends_no_login(keep, scripted):
    provider = keep(age=EXPIRED)
    scripted.on("/token", Answer(400))
    with pytest.raises(ProviderRejected) as raised:
        store.session_for(provider).get("x")
    assert raised.value.error == "refused_without_reason"
    assert (row(provider).status, row(provider).error_since) == ("active", None)


def test_an_answer_that_is_lost_puts_the_token_in_doubt_and_backs_off(keep, scripted, monkeypatch):
    long_back_offs(monkeypatch)
    provider = keep(age=EXPIRED)
    scripted.on("/token", Answer(cut=-1))
    http = store.session_for(provider)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            http.get("x")
    assert len(scripted.asked("/token")) == 1
    found = row(provider)
    assert (found.in_doubt, found.failures, found.lease_owner) == (True, 1, "")


def test_a_keyring_that_cannot_keep_the_new_token_is_found_out_before_the_old_one_is_spent(
    keep, scripted, use
):
    provider = keep(age=EXPIRED)

    class Full(SmallKeyring):
        def set_password(self, service, username, password):
            if len(password) > 500:
                raise OSError("full")
            super().set_password(service, username, password)

    use(Full())
    with pytest.raises(KeyringUnavailable):
        store.session_for(provider).get("x")
    assert not scripted.asked("/token")
    assert row(provider).lease_owner == ""


def test_a_keyring_that_fails_for_a_moment_after_the_answer_gets_the_token_all_the_same(keep, scripted, use):
    provider = keep(age=EXPIRED)
    scripted.on("/token", Answer(body=ROTATED))
    scripted.on("/api/x", Answer())

    class Moody(SmallKeyring):
        failed = False

        def set_password(self, service, username, password):
            if scripted.asked("/token") and not self.failed:
                self.failed = True
                raise OSError("not now")
            super().set_password(service, username, password)

    use(Moody())
    assert store.session_for(provider).get("x").status_code == 200
    assert row(provider).token.refresh_token == "row-1"


def test_variables_of_the_login_are_those_of_every_session(small, scripted, scripted_entry, token):
    entry = {
        **scripted_entry,
        "api_base_url": f"{scripted.url}/{{tenant}}/",
        "variables": {"tenant": {"source": "user", "pattern": "[a-z]+"}},
    }
    provider = Provider.from_mapping("scripted", entry)
    store.keep(provider, token(), variables={"tenant": "acme"})
    scripted.on("/acme/x", Answer())
    assert store.session_for(provider).get("x").status_code == 200


def test_a_script_must_name_the_endpoints_that_only_a_site_discovers(small):
    provider = Provider.from_mapping("acme", {"client_id": "client", "issuer": "https://id.acme.example"})
    with pytest.raises(InvalidProvider, match="token_endpoint"):
        store.session_for(provider)


# --- logging out ------------------------------------------------------------------------------------


def test_logging_out_revokes_and_leaves_nothing(keep, scripted, small):
    provider = keep()
    scripted.on("/revoke", Answer())
    assert store.forget(provider) == "revoked"
    assert scripted.asked("/revoke")[0].form["token"] == "row-0"
    assert small.entries == {}
    assert store.forget(provider) == "absent"


@pytest.mark.compliance("A34")
def test_a_revocation_that_fails_stops_local_use_and_can_be_repeated(keep, scripted, small):
    provider = keep()
    http = store.session_for(provider)
    scripted.on("/revoke", Answer(503), Answer())
    assert store.forget(provider) == "pending"
    with pytest.raises(ReauthorizationRequired):
        store.session_for(provider).get("x")
    assert not scripted.asked("/api/x")
    assert store.forget(provider) == "revoked"
    assert small.entries == {}
    assert http is not None


def test_a_token_issued_during_a_logout_is_revoked_too(keep, scripted):
    provider = keep(age=EXPIRED)
    scripted.on("/revoke", Answer())
    scripted.on("/token", Answer(body=ROTATED))
    http = store.session_for(provider)
    store_of = store.KeyringStore(provider)
    original = store.KeyringStore.check_writable

    def log_out_meanwhile(self):
        original(self)
        store_of.end()

    store.KeyringStore.check_writable = log_out_meanwhile
    try:
        with pytest.raises(ReauthorizationRequired):
            http.get("x")
    finally:
        store.KeyringStore.check_writable = original
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["row-1"]


def test_a_login_heals_what_was_marked_or_logged_out(keep, scripted):
    provider = keep(age=EXPIRED)
    scripted.on("/token", Answer(400, body={"error": "invalid_grant"}))
    scripted.on("/api/x", Answer())
    with pytest.raises(ReauthorizationRequired):
        store.session_for(provider).get("x")
    assert store.session_for(keep()).get("x").status_code == 200


def test_no_token_is_logged_or_shown(keep, scripted, token, caplog, canary):
    caplog.set_level("DEBUG")
    provider = keep(refresh_token=f"{canary}-0", age=EXPIRED)
    scripted.on("/token", Answer(400, body={"error": "invalid_grant"}))
    http = store.session_for(provider)
    with pytest.raises(ReauthorizationRequired):
        http.get("x")
    assert canary not in caplog.text + repr(row(provider)) + repr(http)


# --- a response of which only the refresh token is usable --------------------------------------------


def test_the_new_refresh_token_of_an_odd_response_is_written_back(keep, scripted):
    provider = keep(age=EXPIRED)
    odd = {"id_token": "a.b.c", "refresh_token": "row-1", "token_type": "Bearer"}
    scripted.on("/token", Answer(body=odd), Answer(body={**ROTATED, "refresh_token": "row-2"}))
    with pytest.raises(ProviderUnavailable) as raised:
        store.session_for(provider).get("x")
    assert raised.value.code == "malformed_response"
    seen = row(provider)
    assert (seen.token.refresh_token, seen.token.access_token, seen.token.carried) == (
        "row-1",
        "access-0",
        True,
    )
    assert (seen.version, seen.failures, seen.last_error, seen.in_doubt) == (
        1,
        1,
        "malformed_response",
        False,
    )
    eventually(lambda: seen.refresh_at < datetime.now(UTC), "the back-off is over")
    scripted.on("/api/x", Answer())
    assert store.session_for(provider).get("x").status_code == 200
    assert [request.form["refresh_token"] for request in scripted.asked("/token")] == ["row-0", "row-1"]
    assert row(provider).token.refresh_token == "row-2"


# --- a response for another account -------------------------------------------------------------------

CLAIMS = {"iss": "https://id.example", "aud": "client", "sub": "ada"}


def answered_for(**claims):
    return {**ROTATED, "refresh_token": "row-1", "id_token": id_token(**{**CLAIMS, **claims})}


@pytest.mark.compliance("A39")
def test_after_a_response_for_another_account_the_user_is_asked_to_log_in_again(keep, scripted):
    provider = keep(age=EXPIRED, extra={"id_token": id_token(**CLAIMS)})
    scripted.on("/token", Answer(body=answered_for(sub="linus")))
    for _ in range(2):
        with pytest.raises(
            ReauthorizationRequired, match=r"token of another account.*oauth_login scripted"
        ) as raised:
            store.session_for(provider).get("x")
        assert raised.value.reason == "account_changed"
    assert not scripted.asked("/api/x")
    assert len(scripted.asked("/token")) == 1
    seen = row(provider)
    assert (seen.status, seen.last_error, seen.version) == ("reauthorization_required", "account_changed", 1)
    assert (seen.token.refresh_token, seen.token.access_token, seen.leased) == ("row-1", "access-0", False)

    scripted.on("/revoke", Answer(200))
    keep(refresh_token="row-new", access_token="access-new")
    assert store.forget(provider) == "revoked"
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["row-new", "row-1"]


def test_after_a_401_too_the_reason_is_given(keep, scripted):
    provider = keep(extra={"id_token": id_token(**CLAIMS)})
    first, second = store.session_for(provider), store.session_for(provider)
    scripted.on("/api/x", Answer(200), Answer(200), Answer(401))
    assert [http.get("x").status_code for http in (first, second)] == [200, 200], "both hold the token"
    scripted.on("/token", Answer(body=answered_for(sub="linus")))
    for http in (first, second):
        with pytest.raises(ReauthorizationRequired, match="another account") as raised:
            http.get("x")
        assert raised.value.reason == "account_changed"
    assert len(scripted.asked("/token")) == 1


@pytest.mark.parametrize(
    ("code", "claims"),
    [("id_token_issuer", {"iss": "https://other.example"}), ("id_token_audience", {"aud": "other"})],
)
def test_another_issuer_or_audience_keeps_the_refresh_token_and_the_login(keep, scripted, code, claims):
    provider = keep(age=EXPIRED, extra={"id_token": id_token(**CLAIMS)})
    scripted.on("/token", Answer(body=answered_for(**claims)))
    with pytest.raises(ProviderMisconfigured) as raised:
        store.session_for(provider).get("x")
    assert raised.value.error == code
    seen = row(provider)
    assert (seen.status, seen.failures, seen.last_error) == ("active", 1, code)
    assert (seen.token.refresh_token, seen.token.carried) == ("row-1", True)
