"""Discovery over real sockets: the places of a document, its checks, and the refused addresses."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from oauth_connect.errors import ProviderMisconfigured, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.metadata import discovery
from oauth_connect.protocol.metadata.discovery import (
    Fetched,
    GuardedProvider,
    max_age,
    metadata_urls,
    read_metadata,
)
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from tests.servers.scripted import Answer, ScriptedServer

HERE = AddressGuard(frozenset({"127.0.0.1"}))
OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
HTML = {"Content-Type": "text/html"}
ISSUER = "https://id.example"
TOKEN = Token("access", datetime.now(UTC), refresh_token="refresh")

Resolver = Callable[..., list[Any]]


def document(issuer: str = ISSUER, **changes: Any) -> dict[str, Any]:
    """Return a server's metadata document. None leaves a field out."""
    found = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "revocation_endpoint": f"{issuer}/revoke",
        "jwks_uri": f"{issuer}/jwks",
        "response_types_supported": ["code"],
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def read(**changes: Any) -> discovery.Metadata:
    return read_metadata(ISSUER, document(**changes), AddressGuard())


def declared(**changes: Any) -> Provider:
    entry = {"client_id": "client", "client_secret": "secret", "issuer": ISSUER}
    return Provider.from_mapping("acme", {**entry, **changes})


def fetch(issuer: str, *, guard: AddressGuard = HERE, timeout: float = 50) -> Fetched:
    return discovery.fetch(issuer, guard=guard, timeout=timeout)


def refused(issuer: str, **options: Any) -> ProviderMisconfigured:
    with pytest.raises(ProviderMisconfigured) as error:
        fetch(issuer, **options)
    return error.value


# --- places -------------------------------------------------------------------------------------


@pytest.mark.compliance("A25")
@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        ("https://a.example", [OAUTH, OPENID]),
        ("https://a.example/", [OAUTH, OPENID]),
        ("https://a.example/x/y", [f"{OAUTH}/x/y", f"{OPENID}/x/y", f"/x/y{OPENID}"]),
        ("https://a.example/x/", [f"{OAUTH}/x", f"{OPENID}/x", f"/x{OPENID}"]),
    ],
)
def test_a_document_is_looked_for_where_the_rfcs_put_it(issuer: str, urls: list[str]) -> None:
    assert metadata_urls(issuer) == tuple(f"https://a.example{path}" for path in urls)


@pytest.mark.compliance("A25")
@pytest.mark.parametrize("place", [f"{OAUTH}/o", f"{OPENID}/o", f"/o{OPENID}"])
def test_each_place_serves_and_nothing_is_asked_after_it(scripted: ScriptedServer, place: str) -> None:
    issuer = f"{scripted.url}/o"
    scripted.on(place, Answer(body=document(issuer)))
    assert fetch(issuer).metadata.endpoints["token_endpoint"] == f"{issuer}/token"
    assert scripted.requests[-1].path == place
    assert {request.method for request in scripted.requests} == {"GET"}


@pytest.mark.parametrize(
    "first",
    [Answer(200, b"<html>", HTML), Answer(200, {"issuer": "https://b.example"}), Answer(403), Answer(500)],
    ids=["a page for everything", "another issuer", "403", "500"],
)
def test_a_place_without_a_usable_document_is_skipped(scripted: ScriptedServer, first: Answer) -> None:
    scripted.on(OAUTH, first)
    scripted.on(OPENID, Answer(body=document(scripted.url)))
    assert fetch(scripted.url).document["issuer"] == scripted.url


# --- checks -------------------------------------------------------------------------------------


@pytest.mark.compliance("A25")
@pytest.mark.parametrize(
    "other",
    [
        *("https://id.example/", "https://ID.example", "https://id.example:443", "http://id.example"),
        *("https://id.exampl", "https://id.example ", "", None, 5, ["https://id.example"]),
    ],
)
def test_an_issuer_that_is_not_the_same_to_the_character_is_discarded(other: Any) -> None:
    with pytest.raises(ProviderMisconfigured) as error:
        read(issuer=other)
    assert error.value.code == "issuer_mismatch"


@pytest.mark.compliance("A25")
def test_another_issuer_is_discarded_over_http_too(scripted: ScriptedServer) -> None:
    scripted.on(OAUTH, Answer(body=document(f"{scripted.url}/")))
    assert refused(scripted.url).code == "issuer_mismatch"


def test_a_mismatch_names_both_issuers_and_the_other_one_is_cleaned() -> None:
    with pytest.raises(ProviderMisconfigured) as error:
        read(issuer="https://other.example/\x1b[31m" + "x" * 1000)
    assert f"metadata of {ISSUER} names another issuer (https://other.example/[31mxxx" in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.compliance("A25")
@pytest.mark.compliance("D51")
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint"])
@pytest.mark.parametrize(
    "url",
    [
        *("http://id.example/x", "HTTP://id.example/x", "/x", "id.example/x", "//id.example/x"),
        *("javascript:alert(1)", "file:///etc/passwd", "https://id.example/x#y", "https://u:p@id.example/x"),
        *(
            "https://169.254.169.254/x",
            "http://127.0.0.1/x",
            "https://2130706433/x",
            "https://[::ffff:a00:1]/x",
        ),
        *("https://{tenant}.example/x", "https://id.example/a b", "https://id.example/\r\nx", "https://[::1"),
        *(f"https://id.example/{'x' * 2048}", 5, ["https://id.example/x"], {"x": 1}, True),
    ],
)
def test_a_bad_endpoint_spoils_the_document(name: str, url: Any) -> None:
    with pytest.raises(ProviderMisconfigured, match=name) as error:
        read(**{name: url})
    assert error.value.code == "bad_endpoint"


def test_an_endpoint_may_be_elsewhere_in_the_open() -> None:
    elsewhere = "https://login.other.example/token"
    assert read(token_endpoint=elsewhere).endpoints["token_endpoint"] == elsewhere


@pytest.mark.parametrize("nothing", [None, "", []])
def test_an_endpoint_that_is_empty_is_none(nothing: Any) -> None:
    assert "revocation_endpoint" not in read(revocation_endpoint=nothing).endpoints


@pytest.mark.parametrize("found", [None, [], "x", 5, [document()]])
def test_a_document_is_an_object(found: Any) -> None:
    with pytest.raises(ProviderMisconfigured, match="not a JSON object"):
        read_metadata(ISSUER, found, AddressGuard())


@pytest.mark.parametrize(
    "changes",
    [
        {"token_endpoint": None},
        {"authorization_response_iss_parameter_supported": "true"},
        {"code_challenge_methods_supported": {"S256": True}},
        {"token_endpoint_auth_methods_supported": [1]},
        {"scopes_supported": {"openid": 1}},
    ],
)
def test_a_document_that_is_not_as_the_rfc_says_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProviderMisconfigured, match="metadata of"):
        read(**changes)


@pytest.mark.compliance("D22")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>", HTML),
        Answer(200, b'{"issuer": '),
        Answer(200, b""),
        Answer(200, []),
        Answer(200, b"[" * 100_000),
        Answer(200, b"\xff\xfe"),
        Answer(200, b"issuer=x", {"Content-Type": "application/x-www-form-urlencoded"}),
        Answer(200, document(), HTML),
    ],
    ids=["html", "cut", "empty", "a list", "deep", "no UTF-8", "a form", "said to be html"],
)
def test_what_is_no_json_object_is_refused(scripted: ScriptedServer, answer: Answer) -> None:
    scripted.on(OAUTH, answer)
    assert refused(scripted.url).code == "bad_metadata"


@pytest.mark.parametrize("content_type", ["application/octet-stream", "TEXT/plain; charset=utf-8", ""])
def test_an_object_of_another_content_type_is_refused_for_it(scripted, content_type: str) -> None:
    scripted.on(OAUTH, Answer(body=document(scripted.url), headers={"Content-Type": content_type}))
    named = content_type.partition(";")[0].lower() or "none"
    assert f"Content-Type ({named}); it must be application/json" in str(refused(scripted.url))


def test_only_what_is_used_is_kept(scripted: ScriptedServer) -> None:
    scripted.on(OAUTH, Answer(body=document(scripted.url, client_secret="x", jwks={"keys": []})))
    assert set(fetch(scripted.url).document) == {
        *("issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint")
    }


# --- the fields of a provider --------------------------------------------------------------------


def test_the_fields_of_a_provider_are_the_servers_own_words() -> None:
    named = {
        name: f"https://id.example/{name}"
        for name in ("introspection_endpoint", "device_authorization_endpoint", "userinfo_endpoint")
    }
    fields = read(**named, authorization_response_iss_parameter_supported=True).fields_for(declared())
    assert fields == {
        "authorization_endpoint": "https://id.example/authorize",
        "token_endpoint": "https://id.example/token",
        "revocation_endpoint": "https://id.example/revoke",
        **named,
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_method": "client_secret_basic",
    }


@pytest.mark.compliance("A6")
@pytest.mark.parametrize("methods", [["plain"], ["plain", "s256"], ["S512"]])
def test_pkce_never_falls_to_plain(methods: list[str]) -> None:
    with pytest.raises(ProviderMisconfigured) as error:
        read(code_challenge_methods_supported=methods).fields_for(declared())
    assert error.value.code == "pkce_not_supported"


def test_a_list_may_be_one_string() -> None:
    found = read(
        token_endpoint_auth_methods_supported="client_secret_post",
        scopes_supported="openid profile",
        code_challenge_methods_supported="S256",
    )
    assert found.token_endpoint_auth_methods_supported == ("client_secret_post",)
    assert found.scopes_supported == ("openid", "profile")
    assert found.fields_for(declared())["token_endpoint_auth_method"] == "client_secret_post"


def test_pkce_may_have_the_name_that_the_entry_gives_it() -> None:
    reads = read(code_challenge_methods_supported=["s256"])
    reads.fields_for(declared(authorize={"code_challenge_method": "s256"}))
    with pytest.raises(ProviderMisconfigured, match="S256"):
        reads.fields_for(declared())


@pytest.mark.compliance("A6")
@pytest.mark.parametrize("methods", [None, [], ["S256"], ["plain", "S256"]])
def test_a_server_that_says_nothing_of_pkce_is_still_sent_s256(methods: list[str] | None) -> None:
    fields = read(code_challenge_methods_supported=methods).fields_for(declared())
    provider = GuardedProvider.from_mapping("acme", {"client_id": "x", "client_secret": "s", **fields})
    assert provider.authorize.code_challenge_method == "S256"


def test_an_entry_that_turns_pkce_off_with_its_reason_has_its_way() -> None:
    off = {"code_challenge_method": "none", "without_pkce_because": "it answers 400"}
    assert read(code_challenge_methods_supported=["plain"]).fields_for(declared(authorize=off))


@pytest.mark.parametrize(
    ("supported", "entry", "method"),
    [
        (None, {}, "client_secret_basic"),
        (["client_secret_post", "client_secret_basic"], {}, "client_secret_basic"),
        (["private_key_jwt", "client_secret_post"], {}, "client_secret_post"),
        (["client_secret_post"], {"client_secret": ""}, "none"),
        (["client_secret_basic"], {"token_endpoint_auth_method": "client_secret_post"}, None),
        (["private_key_jwt"], {"token_endpoint_auth_method": "client_secret_post"}, None),
    ],
)
def test_a_client_proves_itself_as_the_server_can(supported: Any, entry: Any, method: str | None) -> None:
    metadata = read(token_endpoint_auth_methods_supported=supported)
    assert metadata.fields_for(declared(**entry)).get("token_endpoint_auth_method") == method


@pytest.mark.parametrize(
    ("supported", "entry", "method"),
    [
        (None, {}, None),
        (["client_secret_basic", "client_secret_post"], {}, None),
        (["client_secret_post"], {}, "client_secret_post"),
        (["client_secret_post"], {"token_endpoint_auth_method": "client_secret_post"}, None),
        (["client_secret_basic"], {"token_endpoint_auth_method": "none"}, "client_secret_basic"),
        (["private_key_jwt"], {}, None),
        (["none"], {}, "none"),
        (["client_secret_basic"], {"client_secret": ""}, None),
    ],
)
def test_a_client_proves_itself_at_revocations_as_the_server_can(supported, entry, method) -> None:
    fields = read(revocation_endpoint_auth_methods_supported=supported).fields_for(declared(**entry))
    assert fields.get("revocation", {}).get("authentication") == method


def test_a_server_that_accepts_no_secret_of_ours_is_reported() -> None:
    with pytest.raises(ProviderMisconfigured, match="client_secret_basic nor client_secret_post"):
        read(token_endpoint_auth_methods_supported=["private_key_jwt"]).fields_for(declared())


@pytest.mark.compliance("A40")
@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scopes_supported": ["openid", "email"], "userinfo_endpoint": f"{ISSUER}/me"}, ["openid"]),
        ({"scopes_supported": ["email"], "userinfo_endpoint": f"{ISSUER}/me"}, None),
        ({"scopes_supported": ["openid", "email"]}, None),
        ({"userinfo_endpoint": f"{ISSUER}/me"}, None),
    ],
)
def test_only_the_scope_that_identifies_the_user_is_requested(changes: Any, scopes: Any) -> None:
    assert read(**changes).fields_for(declared()).get("scopes") == scopes


@pytest.mark.parametrize(
    ("place", "listed", "scopes"),
    [
        (OPENID, None, ["openid"]),
        (OPENID, [], ["openid"]),
        (OPENID, ["email"], None),
        (OAUTH, None, None),
    ],
)
def test_metadata_of_an_openid_provider_that_lists_no_scopes_mean_openid(
    scripted: ScriptedServer, place: str, listed: Any, scopes: Any
) -> None:
    found = document(scripted.url, userinfo_endpoint=f"{scripted.url}/me", scopes_supported=listed)
    scripted.on(place, Answer(body=found))
    fetched = fetch(scripted.url)
    # Another process reads the kept document from the cache.
    for metadata in (fetched.metadata, read_metadata(scripted.url, fetched.document, HERE)):
        assert metadata.fields_for(declared()).get("scopes") == scopes


# --- caching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 3600),
        ("public", 3600),
        ("max-age=1200", 1200),
        ("public, MAX-AGE=1200, must-revalidate", 1200),
        ('max-age="1200"', 1200),
        ("s-maxage=9000", 3600),
        ("x-max-age=9000", 3600),
        ("max-age=0", 300),
        ("max-age=-5", 3600),
        ("max-age=x", 3600),
        ("no-store", 300),
        ("no-cache, max-age=9000", 300),
        ("max-age=999999999999", 86400),
        (f"max-age={'9' * 400}", 3600),
    ],
)
def test_a_document_is_fresh_for_five_minutes_to_a_day(header: str, seconds: int) -> None:
    assert max_age(header) == seconds


def test_the_header_is_read(scripted: ScriptedServer) -> None:
    scripted.on(OAUTH, Answer(body=document(scripted.url), headers={"Cache-Control": "max-age=1200"}))
    assert fetch(scripted.url).max_age == 1200


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.compliance("D25")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(scripted: ScriptedServer, status: int) -> None:
    scripted.on("/elsewhere", Answer(body=document(scripted.url)))
    for place in (OAUTH, OPENID):
        scripted.on(place, Answer(status, headers={"Location": f"{scripted.url}/elsewhere"}))
    assert refused(scripted.url).code == "redirected"
    assert not scripted.asked("/elsewhere")


@pytest.mark.compliance("A26")
@pytest.mark.compliance("D23")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b" " * 2**20, repeat=100),
        Answer(body=gzip.compress(b" " * 100 * 2**20), headers={"Content-Encoding": "gzip"}),
    ],
    ids=["100 MB", "a bomb"],
)
def test_a_flood_is_stopped_and_does_not_fill_the_memory(scripted: ScriptedServer, answer: Answer) -> None:
    scripted.on(OAUTH, answer)
    tracemalloc.start()
    try:
        assert "1 MiB" in str(refused(scripted.url))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_no_compression_is_asked_for_and_nothing_is_given_away(scripted: ScriptedServer, netrc: None) -> None:
    cookie = {"Set-Cookie": "a=b; Path=/"}
    scripted.on(OAUTH, Answer(404, headers=cookie))
    scripted.on(OPENID, Answer(body=document(scripted.url), headers=cookie))
    fetch(scripted.url)
    for request in scripted.requests:
        assert request.headers["Accept-Encoding"] == "identity"
        assert not {"Authorization", "Cookie"} & request.headers.keys()


@pytest.mark.compliance("A26")
@pytest.mark.compliance("D24")
@pytest.mark.parametrize(
    "answer",
    [Answer(body=document(), drip=0.1), Answer(head_drip=0.1), Answer(silent=True)],
    ids=["body", "head", "silence"],
)
def test_it_ends_at_its_deadline(scripted: ScriptedServer, answer: Answer) -> None:
    scripted.on(OAUTH, answer)
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        fetch(scripted.url, timeout=0.5)
    assert time.monotonic() - started < 15, "the drips would take longer"
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("answer", [Answer(500), Answer(503), Answer(429)])
def test_a_failing_server_is_reported_as_unavailable(scripted: ScriptedServer, answer: Answer) -> None:
    scripted.on(OAUTH, answer)
    with pytest.raises(ProviderUnavailable) as error:
        fetch(scripted.url)
    assert error.value.code == f"http_{answer.status}"


def test_a_server_that_is_not_there_is_asked_once(scripted: ScriptedServer) -> None:
    with pytest.raises(ProviderUnavailable) as error:
        fetch("http://127.0.0.1:1")
    assert error.value.code == "connection_refused"


def test_a_server_that_hangs_up_is_not_asked_elsewhere(scripted: ScriptedServer) -> None:
    scripted.on(OAUTH, Answer(reset=True))
    with pytest.raises(ProviderUnavailable):
        fetch(scripted.url)
    assert len(scripted.requests) == 1


def test_a_server_without_metadata_is_reported(scripted: ScriptedServer) -> None:
    failure = refused(scripted.url)
    assert (failure.code, failure.status) == ("http_404", 404)
    assert "write the endpoints" in str(failure)


@pytest.mark.compliance("A23")
def test_a_certificate_without_a_trusted_issuer_is_refused(tls_server: ScriptedServer) -> None:
    tls_server.on(OAUTH, Answer(body=document(tls_server.url)))
    with pytest.raises(ProviderUnavailable):
        fetch(tls_server.url)
    assert not tls_server.requests


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.compliance("A26")
@pytest.mark.compliance("D51")
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "169.254.169.254"],
)
def test_an_issuer_that_is_private_as_it_is_written_is_not_connected_to(
    scripted: ScriptedServer, host: str
) -> None:
    for scheme in ("http", "https"):
        issuer = f"{scheme}://{host}:{scripted.port}"
        assert refused(issuer, guard=AddressGuard()).code == "forbidden_address"
    assert not scripted.requests


@pytest.mark.compliance("A26")
@pytest.mark.compliance("D51")
@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["::ffff:127.0.0.1"], ["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"]],
)
def test_a_name_with_a_private_address_is_not_connected_to(
    scripted: ScriptedServer, resolver: dict[str, list[list[str]]], found: list[str]
) -> None:
    resolver["id.example"] = [found]
    failure = refused(f"http://id.example:{scripted.port}", guard=AddressGuard())
    assert failure.code == "forbidden_address"
    assert "DISCOVERY_PRIVATE_HOSTS" in str(failure)
    assert not scripted.requests


def test_a_name_in_the_settings_may_be_private(
    scripted: ScriptedServer, resolver: dict[str, list[list[str]]]
) -> None:
    resolver["id.example"] = [["127.0.0.1"]]
    issuer = f"http://id.example:{scripted.port}"
    scripted.on(OAUTH, Answer(body=document(issuer)))
    with pytest.raises(ProviderMisconfigured, match="Use https"):  # it was reached and read
        fetch(issuer, guard=AddressGuard(frozenset({"id.example"})))
    assert scripted.asked(OAUTH)


@pytest.mark.parametrize("host", ["nowhere.invalid", f"{'x' * 70}.example"])
def test_a_name_that_has_no_address_is_unreachable(host: str) -> None:
    with pytest.raises(ProviderUnavailable):
        fetch(f"https://{host}", guard=AddressGuard())


# --- requests to its endpoints -------------------------------------------------------------------


@pytest.mark.compliance("A26")
@pytest.mark.compliance("D51")
@pytest.mark.parametrize(
    "call",
    [
        lambda server: server.refresh(TOKEN),
        lambda server: server.revoke(TOKEN),
        lambda server: server.userinfo(TOKEN),
        lambda server: server.exchange_code(code="x", redirect_uri="https://app.example/", code_verifier="v"),
    ],
    ids=["refresh", "revoke", "userinfo", "exchange"],
)
def test_no_secret_goes_to_an_endpoint_that_has_become_private(
    scripted: ScriptedServer, resolver: dict[str, list[list[str]]], call: Callable[[AuthorizationServer], Any]
) -> None:
    base = f"https://id.example:{scripted.port}"
    resolver["id.example"] = [["127.0.0.1"]]
    entry = {"client_id": "client", "client_secret": "secret", "issuer": ISSUER}
    endpoints = {f"{name}_endpoint": f"{base}/{name}" for name in ("token", "revocation", "userinfo")}
    provider = GuardedProvider.from_mapping("acme", {**entry, **endpoints})
    with AuthorizationServer(provider) as server, pytest.raises(ProviderMisconfigured) as error:
        call(server)
    assert error.value.code == "forbidden_address"
    assert not scripted.requests


def test_a_provider_keeps_its_guard_when_its_variables_are_filled_in() -> None:
    entry = {
        "client_id": "client",
        "token_endpoint": "https://id.example/token",
        "api_base_url": "https://{shop}.example/",
        "variables": {"shop": {"pattern": "[a-z]+"}},
    }
    provider = GuardedProvider.from_mapping("acme", {**entry, "addresses": HERE})
    assert provider.resolve({"shop": "a"}).guard is HERE
