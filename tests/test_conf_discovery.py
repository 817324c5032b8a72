"""An issuer alone configures a provider."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.cache import caches
from django.core.checks import CheckMessage, Tags, registry
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.urls import reverse

from oauth_connect.conf import conf
from oauth_connect.errors import ProviderMisconfigured, ProviderUnavailable
from oauth_connect.issuers import Issuers
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.protocol.metadata.discovery import GuardedProvider
from tests.servers.codeyard import CLIENT_ID, CLIENT_SECRET
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.visitor import Visitor, answer_of_codeyard, query_of, state_of

WELL_KNOWN = "/.well-known/oauth-authorization-server"
CLIENT = {"client_id": "client", "client_secret": "secret"}
CONNECT = reverse("oauth_connect:connect", kwargs={"provider": "acme"})
ISS = "authorization_response_iss_parameter_supported"


def our_checks() -> list[CheckMessage]:
    """What this package's checks say; Django's own may ask the database."""
    checks = registry.registry.get_checks(include_deployment_checks=True)
    ours = [
        one for one in checks if one.__module__.startswith("oauth_connect.") and Tags.database not in one.tags
    ]
    return [message for check in ours for message in check(app_configs=None, databases=None)]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "_issuers", Issuers())
    caches["default"].clear()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network was used")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def acme(scripted: ScriptedServer, configure: Callable[..., None]) -> Callable[..., dict[str, Any]]:
    """Configure the scripted server by its issuer alone, varied; ``says`` goes into its document."""

    def make(says: dict[str, Any] | None = None, **entry: Any) -> dict[str, Any]:
        document = {
            "issuer": scripted.url,
            "authorization_endpoint": f"{scripted.url}/authorize",
            "token_endpoint": f"{scripted.url}/token",
            "revocation_endpoint": f"{scripted.url}/revoke",
            **(says or {}),
        }
        scripted.on(WELL_KNOWN, Answer(body=document))
        found = {"issuer": scripted.url, **CLIENT, **entry}
        configure(PROVIDERS={"acme": found})
        return found

    return make


# --- a server that connects no accounts ---------------------------------------------------------

ONLY_MACHINES = {"grant_types_supported": ["client_credentials"]}


@pytest.mark.django_db
def test_a_server_that_gives_users_no_grant_is_no_button_once_that_is_known(acme, user, scripted) -> None:
    acme(ONLY_MACHINES)
    visitor = Visitor(user)
    assert visitor.get(CONNECT).status_code == 200, "nothing is fetched for a page"
    assert scripted.requests == []
    assert visitor.post(CONNECT).status_code == 404
    assert visitor.get(CONNECT).status_code == 404
    assert CONNECT not in visitor.get(reverse("oauth_connect:connections")).content.decode()


@pytest.mark.django_db
def test_what_another_process_knows_of_a_server_is_enough(acme, user, monkeypatch, scripted) -> None:
    acme(ONLY_MACHINES)
    conf.provider("acme")
    monkeypatch.setattr(conf, "_issuers", Issuers())
    assert Visitor(user).get(CONNECT).status_code == 404
    assert len(scripted.requests) == 1


@pytest.mark.once
def test_pages_do_not_wait_for_the_cache_again_and_again(acme, monkeypatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(caches["default"], "get", lambda key: looked.append(key))
    acme(ONLY_MACHINES)
    assert conf.connectable_provider("acme") is not None
    assert conf.connectable_provider("acme") is not None
    assert len(looked) == 1


@pytest.mark.parametrize(
    ("says", "entry", "connects"),
    [
        ({}, {}, True),
        ({"grant_types_supported": ["authorization_code"]}, {}, True),
        ({"authorization_endpoint": None}, {}, False),
        (ONLY_MACHINES, {"grant_types": ["authorization_code"]}, True),
    ],
)
def test_the_entry_overrides_what_the_server_says_of_grants(acme, says, entry, connects) -> None:
    acme(says, **entry)
    conf.provider("acme")
    assert (conf.connectable_provider("acme") is not None) is connects


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
    monkeypatch.setattr(conf, "_issuers", Issuers())  # another process
    conf.provider("acme")
    assert len(scripted.asked(WELL_KNOWN)) == 1
    configure(DISCOVERY_CACHE=None)
    monkeypatch.setattr(conf, "_issuers", Issuers())
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
    (message,) = [one for one in our_checks() if one.id == "oauth_connect.E005"]
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


@pytest.mark.parametrize(
    "hosts", ["id.corp", None, [1], ["https://id.corp"], ["id.corp:443"], ["a b"], [""], {"id.corp": 1}]
)
def test_the_private_hosts_are_a_list_of_hosts(configure, hosts: Any) -> None:
    configure(DISCOVERY_PRIVATE_HOSTS=hosts)
    with pytest.raises(ImproperlyConfigured, match="DISCOVERY_PRIVATE_HOSTS"):
        _ = conf.discovery_private_hosts
    assert "oauth_connect.E004" in {message.id for message in our_checks()}


@pytest.mark.parametrize("alias", ["nowhere", 5, ["default"]])
def test_the_cache_is_one_of_the_sites(configure, alias: Any) -> None:
    configure(DISCOVERY_CACHE=alias)
    with pytest.raises(ImproperlyConfigured, match="DISCOVERY_CACHE"):
        _ = conf.discovery_cache
    assert "oauth_connect.E004" in {message.id for message in our_checks()}


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


# --- without network ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"client_id": ""}, r"acme\.client_id"),
        ({"issuer": "http://id.example"}, r"acme\.issuer: Use https"),
        ({"issuer": "https://id.example?x=1"}, r"acme\.issuer: cannot be discovered"),
        ({"issuer": "https://id.example#x"}, r"acme\.issuer: "),
        (
            {"issuer": "https://{tenant}.example", "variables": {"tenant": {"pattern": "[a-z]+"}}},
            r"acme\.issuer",
        ),
        ({"issuer": ""}, r"acme\.token_endpoint: missing"),
        ({"scope": ["x"]}, r"acme\.scope: unknown key"),
        ({ISS: False}, r"acme\.authorize\.without_iss_because"),
    ],
)
def test_an_entry_is_checked_as_far_as_it_goes(
    configure, no_network, in_production, entry: Any, path: str
) -> None:
    configure(PROVIDERS={"acme": {"issuer": "https://id.example", **CLIENT, **entry}})
    with pytest.raises(ImproperlyConfigured, match=path):
        conf.provider("acme")
    assert "oauth_connect.E005" in {message.id for message in our_checks()}


@pytest.mark.django_db(databases="__all__")  # since 6.1 some of Django's own ask the database
def test_check_sends_no_request(configure, no_network) -> None:
    configure(
        PROVIDERS={"acme": {"issuer": "https://id.example", "api_base_url": "https://api.example", **CLIENT}}
    )
    call_command("check", deploy=True, stdout=StringIO(), stderr=StringIO())
    assert not {one.id for one in our_checks()} & {
        f"oauth_connect.{number}" for number in ("E004", "E005", "W006", "W015")
    }


@pytest.mark.django_db
def test_pages_and_valid_tokens_send_no_request(configure, user, visitor, no_network) -> None:
    entry = {"issuer": "https://id.example", "api_base_url": "https://api.example/", **CLIENT}
    configure(PROVIDERS={"acme": entry})
    answer = {"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 3600}
    connection = Connection.objects.store(owner=user, provider="acme", token_response=answer, account_id="1")
    assert connection.access_token() == "a"
    assert connection.session().base_url == "https://api.example/"
    assert CONNECT in visitor.get(reverse("oauth_connect:connections")).content.decode()
    assert visitor.get(CONNECT).status_code == 200


# --- failure at the moment of use ----------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(("answer", "code"), [(Answer(503), "http_503"), (Answer(404), "http_404")])
def test_a_start_that_learns_no_endpoint_gets_a_page(acme, scripted, visitor, answer, code, caplog) -> None:
    acme()
    scripted.on(WELL_KNOWN, answer)
    with caplog.at_level(logging.WARNING, logger="oauth_connect.views"):
        response = visitor.post(CONNECT)
    assert response.status_code == 502
    assert CONNECT in response.content.decode()  # try again
    assert code in caplog.text
    asked_for_json = visitor.post(CONNECT, headers={"Accept": "application/json"})
    assert (asked_for_json.status_code, asked_for_json.json()) == (502, {"error": code})


@pytest.mark.django_db(transaction=True)
def test_a_token_that_still_works_serves_while_nothing_can_be_learnt(acme, scripted, make_connection) -> None:
    acme()
    scripted.on(WELL_KNOWN, Answer(503))
    within_leeway = make_connection("acme", age=2800)
    assert within_leeway.access_token(900) == "access-0"
    expired = make_connection("acme", age=7200)
    with pytest.raises(ProviderUnavailable):
        expired.access_token()
    assert Connection.objects.get(pk=expired.pk).status == "active"


@pytest.mark.django_db(transaction=True)
def test_a_disconnected_token_is_kept_while_nothing_can_be_learnt(acme, scripted, make_connection) -> None:
    acme()
    scripted.on(WELL_KNOWN, Answer(503))
    connection = make_connection("acme")
    connection.disconnect()
    assert connection.status == "revoked"
    assert PendingRevocation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_disabled_provider_gets_no_request(acme, scripted, make_connection) -> None:
    acme(enabled=False)
    with pytest.raises(ProviderMisconfigured, match="disabled"):
        make_connection("acme", age=7200).access_token()
    assert not scripted.requests


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
    (message,) = [one for one in our_checks() if one.id == "oauth_connect.W015"]
    assert reason in message.msg


# --- against a real server ----------------------------------------------------------------------


@pytest.fixture
def by_issuer(codeyard, configure) -> Any:
    entry = {"issuer": f"{codeyard.url}/o", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    configure(PROVIDERS={"codeyard": entry})
    return codeyard


@pytest.mark.compliance("A25")
@pytest.mark.django_db(transaction=True)
def test_codeyard_is_configured_by_its_issuer_and_refreshes(by_issuer, user) -> None:
    token = by_issuer.grant()
    connection = Connection.objects.store(
        owner=user, provider="codeyard", token_response=token, account_id="1"
    )
    connection.refresh()
    assert by_issuer.refreshes == 1
    assert connection.token.refresh_token != token["refresh_token"]
    connection.disconnect()
    assert not PendingRevocation.objects.exists()


@pytest.mark.compliance("A8")
@pytest.mark.django_db(transaction=True)
def test_an_account_is_connected_at_codeyard_by_its_issuer(by_issuer, visitor: Visitor) -> None:
    url = visitor.start("codeyard")
    assert query_of(url)["code_challenge_method"] == "S256"
    answer = answer_of_codeyard(url)
    assert answer["iss"] == f"{by_issuer.url}/o"
    assert visitor.come_back("codeyard", **answer).status_code == 302
    assert Connection.objects.get().token.refresh_token
