"""An issuer alone configures a provider."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.errors import ProviderMisconfigured
from oauth_connect.models import Connection
from oauth_connect.protocol.metadata.discovery import GuardedProvider
from tests.conf.issuer import CLIENT, ISS
from tests.support.discovery import WELL_KNOWN, forget_metadata
from tests.support.our_checks import our_messages
from tests.support.visitor import state_of

# --- what a provider is made of -----------------------------------------------------------------


def test_an_issuer_alone_configures_a_provider(scripted, acme) -> None:
    acme({"device_authorization_endpoint": f"{scripted.url}/device", ISS: True})
    provider = conf.provider("acme")
    assert isinstance(provider, GuardedProvider)
    assert (provider.slug, provider.issuer, provider.client_id) == ("acme", scripted.url, "client")
    assert provider.authorization_endpoint == f"{scripted.url}/authorize"
    assert provider.token_endpoint == f"{scripted.url}/token"
    assert provider.revocation_endpoint == f"{scripted.url}/revoke"
    assert provider.device_authorization_endpoint == f"{scripted.url}/device"
    assert provider.authorization_response_iss_parameter_supported is True
    assert provider.client_authentication == "client_secret_basic"
    assert conf.provider("acme") is provider
    assert len(scripted.asked(WELL_KNOWN)) == 1


def test_the_entry_overrules_the_document(scripted, acme) -> None:
    says = {"userinfo_endpoint": f"{scripted.url}/me", "scopes_supported": ["openid"]}
    acme(says, revocation_endpoint="", authorization_endpoint=f"{scripted.url}/mine", scopes=["a"])
    provider = conf.provider("acme")
    assert (provider.revocation_endpoint, provider.authorization_endpoint) == ("", f"{scripted.url}/mine")
    assert provider.scopes == ("a",)
    assert provider.userinfo_endpoint == f"{scripted.url}/me"


def test_a_preset_comes_between_entry_and_metadata(scripted, acme, monkeypatch) -> None:
    preset = {"name": "Acme", "revocation_endpoint": f"{scripted.url}/preset", "scopes": ["a"]}
    monkeypatch.setattr("oauth_connect.presets._load", lambda name: preset if name == "acme" else None)
    acme(scopes=["b"])
    provider = conf.provider("acme")
    assert (provider.label, provider.revocation_endpoint) == ("Acme", f"{scripted.url}/preset")
    assert provider.scopes == ("b",)


def test_endpoints_by_hand_are_believed_and_nothing_is_asked(scripted, acme) -> None:
    acme(token_endpoint=f"{scripted.url}/by-hand")
    provider = conf.provider("acme")
    assert (provider.token_endpoint, provider.authorization_endpoint) == (f"{scripted.url}/by-hand", "")
    assert provider.guard is None
    assert not scripted.requests


def test_a_changed_entry_is_used_immediately_without_a_request(scripted, acme) -> None:
    acme()
    conf.provider("acme")
    acme(client_id="another")
    assert conf.provider("acme").client_id == "another"
    assert len(scripted.asked(WELL_KNOWN)) == 1


def test_processes_share_what_is_learnt_through_the_cache(scripted, acme, monkeypatch, configure) -> None:
    acme()
    conf.provider("acme")
    forget_metadata(monkeypatch)  # another process
    conf.provider("acme")
    assert len(scripted.asked(WELL_KNOWN)) == 1
    configure(DISCOVERY_CACHE=None)
    forget_metadata(monkeypatch)
    conf.provider("acme")
    assert len(scripted.asked(WELL_KNOWN)) == 2


@pytest.mark.compliance("B3")
def test_no_secret_is_cached(scripted, acme, settings, tmp_path) -> None:
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path), "OPTIONS": {}}}
    acme({"client_secret": "canary"}, client_secret="canary", client_id="canary")
    conf.provider("acme")
    held = [path.read_bytes() for path in tmp_path.iterdir()]
    assert held
    for entry in held:
        assert b"canary" not in entry


@pytest.mark.compliance("A6")
def test_a_server_that_offers_less_than_s256_is_refused_at_the_moment_of_use(acme) -> None:
    acme({"code_challenge_methods_supported": ["plain"]})
    with pytest.raises(ProviderMisconfigured, match="S256"):
        conf.provider("acme")


@pytest.mark.parametrize("key", ["addresses", "guard"])
def test_an_entry_has_no_say_in_the_guard(acme, key: str) -> None:
    acme(**{key: {"private_hosts": ["10.0.0.1"]}})
    with pytest.raises(ImproperlyConfigured, match=rf"acme\.{key}: unknown key"):
        conf.provider("acme")


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.compliance("D51")
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "10.0.0.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
        "0.0.0.0",
        "x.localhost",
    ],
)
def test_a_private_issuer_is_refused_by_check_and_at_use(configure, no_network, host: str) -> None:
    configure(PROVIDERS={"acme": {"issuer": f"https://{host}/", **CLIENT}})
    with pytest.raises(ImproperlyConfigured, match=r"acme\.issuer: .*DISCOVERY_PRIVATE_HOSTS"):
        conf.provider("acme")
    (message,) = [one for one in our_messages() if one.id == "oauth_connect.E005"]
    assert "acme.issuer" in message.msg


def test_a_private_issuer_that_the_settings_name_is_not(configure) -> None:
    configure(
        PROVIDERS={"acme": {"issuer": "https://10.0.0.1", **CLIENT}}, DISCOVERY_PRIVATE_HOSTS=["10.0.0.1"]
    )
    assert conf.issuer_problem("acme") == ""


@pytest.mark.compliance("A26")
@pytest.mark.compliance("D51")
def test_a_loader_may_not_name_this_machine_as_the_settings_may(scripted, acme, configure) -> None:
    entry = acme()
    configure(
        PROVIDERS={"mine": entry}, PROVIDER_LOADER=lambda slug, owner: entry if slug == "theirs" else None
    )
    assert conf.provider("mine").token_endpoint
    with pytest.raises(ImproperlyConfigured, match=r"theirs\.issuer"):
        conf.provider("theirs")
    configure(DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])
    assert conf.provider("theirs").token_endpoint


@pytest.mark.compliance("A26")
def test_the_same_words_from_a_loader_are_still_not_the_settings_own(acme, configure) -> None:
    entry = acme()
    assert conf.provider("acme").token_endpoint
    configure(PROVIDER_LOADER=lambda slug, owner: entry)
    with pytest.raises(ImproperlyConfigured, match=r"acme\.issuer"):
        conf.provider("acme")


@pytest.mark.compliance("A26")
def test_a_document_may_not_name_another_private_host(acme) -> None:
    acme({"token_endpoint": "https://192.168.0.1/token"})
    with pytest.raises(ProviderMisconfigured, match="token_endpoint"):
        conf.provider("acme")


@pytest.mark.compliance("D51")
@pytest.mark.django_db(transaction=True)
def test_an_endpoint_that_has_become_private_alarms_and_marks_no_connection(
    acme, make_connection, monkeypatch
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("10.0.0.1" if host == "id.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    acme({"token_endpoint": "https://id.example/token"})
    connection = make_connection("acme", age=7200)
    for _ in ("refused", "within the back-off"):
        with pytest.raises(ProviderMisconfigured) as error:
            connection.access_token()
        assert error.value.code == "forbidden_address"
    row = Connection.objects.get(pk=connection.pk)
    assert (row.status, row.last_error) == ("active", "forbidden_address")


# --- iss ----------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.compliance("A8")
@pytest.mark.compliance("D8")
def test_where_iss_is_declared_an_answer_without_it_is_refused(acme, scripted, visitor, issues) -> None:
    acme({ISS: True})
    state = state_of(visitor.start("acme"))
    refused = visitor.come_back("acme", state=state, code="code")
    assert refused.status_code == 400
    assert "issuer_missing" in str(refused.context["code"])
    assert not scripted.asked("/token")

    state = state_of(visitor.start("acme"))
    assert visitor.come_back("acme", state=state, code="code", iss=scripted.url).status_code == 302


@pytest.mark.django_db
@pytest.mark.compliance("A8")
def test_an_entry_may_relax_it_with_a_reason_that_check_shows(acme, scripted, visitor, issues) -> None:
    reason = "its proxy drops the parameter"
    acme({ISS: True}, **{ISS: False}, authorize={"without_iss_because": reason})
    state = state_of(visitor.start("acme"))
    assert visitor.come_back("acme", state=state, code="code").status_code == 302
    state = state_of(visitor.start("acme"))
    other = visitor.come_back("acme", state=state, code="code", iss="https://evil.example")
    assert other.status_code == 400
    (message,) = [one for one in our_messages() if one.id == "oauth_connect.W015"]
    assert reason in message.msg
