from __future__ import annotations

import copy
from typing import Any

import pytest

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.provider import Provider
from tests.protocol.providers import ACME, acme


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"token_endpont": "x"}, "acme.token_endpont: unknown key; did you mean 'token_endpoint'?"),
        ({"colour": "x"}, "acme.colour: unknown key"),
        ({"CLIENT_ID": "x"}, "acme.CLIENT_ID: unknown key; did you mean 'client_id'?"),
        ({"token_url": "x"}, "acme.token_url: unknown key; did you mean 'token_endpoint'?"),
        ({"refresh": {"key": "x"}}, "acme.refresh.key: unknown key"),
        ({"refresh": {"rotates": 1}}, "acme.refresh.rotates: unknown key; did you mean 'rotation'?"),
        ({"client_id": ""}, "acme.client_id: missing"),
        ({"client_id": None}, "acme.client_id: expected a string, not None. Is its environment variable set"),
        ({"token_endpoint": ""}, "acme.token_endpoint: missing"),
        ({"client_id": 5}, "acme.client_id: expected a string, not int"),
        ({"enabled": "yes"}, "acme.enabled: expected true or false, not 'yes'"),
        ({"scopes": "repo"}, "acme.scopes: expected a list, not str"),
        ({"scopes": ["repo", 5]}, "acme.scopes[1]: expected a string, not int"),
        ({"scopes": {"repo"}}, "acme.scopes: expected a list, not set"),
        ({"api": "x"}, "acme.api: expected a table, not str"),
        ({"api": {"headers": {"X": 1}}}, "acme.api.headers.X: expected a string, not int"),
        ({"refresh": {"grace_seconds": True}}, "acme.refresh.grace_seconds: expected a whole number"),
        ({"refresh": {"grace_seconds": "5"}}, "acme.refresh.grace_seconds: expected a whole number"),
        ({"refresh": {"rotation": "daily"}}, "acme.refresh.rotation: expected one of 'always'"),
        ({"token_endpoint_auth_method": "private_key"}, "acme.token_endpoint_auth_method: expected one of"),
        ({"identity": {"source": ["x"]}}, "acme.identity.source: expected one of"),
        ({"variables": {"tenant": {}}}, "acme.variables.tenant.pattern: missing"),
        ({"variables": {"tenant": {"pattern": "("}}}, "acme.variables.tenant.pattern: "),
        (
            {"variables": {"tenant": {"pattern": "[a-z]+", "default": "A"}}},
            "acme.variables.tenant.default: does not match",
        ),
        (
            {"variables": {"tenant": {"pattern": "[a-z]+", "example": "A"}}},
            "acme.variables.tenant.example: does not match",
        ),
        ({1: "x"}, "acme.1: unknown key"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(wrong: dict[Any, Any], path: str) -> None:
    with pytest.raises(InvalidProvider) as refused:
        Provider.from_mapping("acme", {**ACME, **wrong})
    assert str(refused.value).startswith(path)


@pytest.mark.parametrize("field", ["client_id"])
def test_what_is_missing_is_named(field: str) -> None:
    data = {key: value for key, value in ACME.items() if key != field}
    with pytest.raises(InvalidProvider, match=f"acme.{field}: missing"):
        Provider.from_mapping("acme", data)


ENDPOINTS = [
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "device_authorization_endpoint",
    "userinfo_endpoint",
    "api_base_url",
]


@pytest.mark.compliance("A23")
@pytest.mark.compliance("C-mcp-remote")
@pytest.mark.parametrize("field", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "-x",
        "$(touch x)",
        "https://id.example/#x",
        "https://user@id.example/",
    ],
)
def test_every_endpoint_is_https(field: str, url: str) -> None:
    with pytest.raises(InvalidProvider, match=f"^acme.{field}: "):
        acme(**{field: url})


@pytest.mark.compliance("A23")
def test_the_refresh_endpoint_is_https_too() -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.refresh\.endpoint: "):
        acme(refresh={"endpoint": "http://id.example/refresh"})


@pytest.mark.compliance("A6")
@pytest.mark.compliance("B2")
def test_pkce_is_disabled_only_with_a_reason() -> None:
    with pytest.raises(InvalidProvider, match="without_pkce_because"):
        acme(authorize={"code_challenge_method": "none"})
    acme(authorize={"code_challenge_method": "none", "without_pkce_because": "it answers 400"})


@pytest.mark.compliance("A6")
def test_there_is_no_plain_challenge() -> None:
    with pytest.raises(InvalidProvider, match=r"authorize\.code_challenge_method"):
        acme(authorize={"code_challenge_method": "plain"})


@pytest.mark.compliance("A8")
def test_an_issuer_that_is_to_be_compared_must_be_known() -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.issuer: missing"):
        acme(authorization_response_iss_parameter_supported=True)


@pytest.mark.compliance("C-state")
@pytest.mark.parametrize("name", ["state", "redirect_uri", "client_id", "response_type", "code_challenge"])
def test_an_entry_cannot_set_what_protects_the_flow(name: str) -> None:
    with pytest.raises(InvalidProvider, match=name):
        acme(authorize={"params": {name: "x"}})


@pytest.mark.parametrize("scope", ["", "a b", "a\\b", 'a"b', "a\x00", "é", "a\n"])
def test_each_scope_is_one_scope(scope: str) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.scopes: "):
        acme(scopes=[scope])


@pytest.mark.parametrize(
    "host", ["https://api.example", "api.example/v1", "user@api.example", "a:99999", "a b", ""]
)
def test_an_api_host_is_a_host(host: str) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.api_hosts: "):
        acme(api_hosts=[host])


# --- the client ---------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [5, b"secret", [], [5], {"a": 1}, None])
def test_a_secret_is_a_string_a_callable_or_a_list(secret: Any) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.client_secret: "):
        acme(client_secret=secret)


DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.mark.parametrize(
    ("changes", "connects"),
    [
        ({}, True),
        ({"authorization_endpoint": ""}, False),
        ({"grant_types": ["authorization_code", "refresh_token"]}, True),
        ({"grant_types": ["client_credentials"]}, False),
        ({"grant_types": [DEVICE_CODE]}, False),
        ({"enabled": False}, False),
        ({"issuer": "https://id.example", "token_endpoint": "", "authorization_endpoint": ""}, True),
        (
            {
                "issuer": "https://id.example",
                "token_endpoint": "",
                "authorization_endpoint": "",
                "grant_types": ["client_credentials"],
            },
            False,
        ),
    ],
)
def test_users_connect_accounts_where_the_entry_allows_it(changes, connects: bool) -> None:
    assert acme(**changes).connects_accounts is connects


def test_an_unknown_grant_is_named() -> None:
    with pytest.raises(
        InvalidProvider, match=r"^acme\.grant_types\[0\]: expected one of 'authorization_code'"
    ):
        acme(grant_types=["device_code"])


def test_a_value_in_lower_case_fits_from_every_source() -> None:
    host = {"pattern": r"[a-z.]+", "default": "Git.Example", "lowercase": True}
    provider = acme(variables={"host": host}, token_endpoint="https://{host}/token")
    assert provider.resolve({}).token_endpoint == "https://git.example/token"
    assert provider.value_of("host", "OTHER.example") == "other.example"


@pytest.mark.compliance("A41")
@pytest.mark.parametrize("grant", ["", "password", "authorization_code", "refresh_token"])
def test_a_machine_token_needs_a_grant_of_the_client_alone(grant: str) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.client_credentials\.grant_type: "):
        acme(client_credentials={"grant_type": grant})
    with pytest.raises(InvalidProvider, match=r"^acme\.client_credentials\.params\.grant_type: "):
        acme(client_credentials={"params": {"grant_type": grant}})


@pytest.mark.parametrize(
    "changes",
    [{}, {"token_endpoint_auth_method": "none", "revocation": {"authentication": "client_secret_basic"}}],
    ids=["token endpoint", "revocation"],
)
def test_raw_basic_cannot_send_a_client_id_with_a_colon(changes) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.token_request\.basic: raw cannot send"):
        acme(client_id="urn:client", token_request={"basic": "raw"}, **changes)
    acme(
        client_id="urn:client",
        token_request={"basic": "raw"},
        token_endpoint_auth_method="client_secret_post",
    )


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_method_that_needs_a_secret_says_so(method: str) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.client_secret: missing"):
        acme(client_secret="", token_endpoint_auth_method=method)


@pytest.mark.parametrize("material", ["newest", lambda: "newest", ["newest", "older"], lambda: ["newest"]])
def test_the_newest_secret_is_used(material: Any) -> None:
    assert acme(client_secret=material).secret() == "newest"


def test_a_callable_secret_is_asked_at_each_use() -> None:
    secrets = iter(["first", "second"])
    provider = acme(client_secret=lambda: next(secrets))
    assert (provider.secret(), provider.secret()) == ("first", "second")


@pytest.mark.parametrize(
    ("entry", "method"),
    [
        ({}, "client_secret_basic"),
        ({"client_secret": ""}, "none"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "client_secret_post"),
        ({"token_endpoint_auth_method": "none"}, "none"),
    ],
)
def test_one_way_of_client_authentication_is_chosen(entry: dict[str, Any], method: str) -> None:
    assert acme(**entry).client_authentication == method


@pytest.mark.compliance("B3")
@pytest.mark.parametrize("secret", ["canary", ["canary"]])
def test_a_provider_does_not_show_its_secret(secret: Any) -> None:
    assert "canary" not in repr(acme(client_secret=secret))


def test_a_provider_shows_its_name_only() -> None:
    """Headers and parameters may be secret too: a subscription's key, for instance."""
    provider = acme(api={"headers": {"X-Key": "canary"}}, token_request={"params": {"key": "canary"}})
    assert repr(provider) == f"<Provider {provider.slug}>"


# --- hosts, endpoints and variables -------------------------------------------------------------


@pytest.mark.compliance("A24")
@pytest.mark.parametrize(
    ("entry", "hosts"),
    [
        ({}, {("api.example", 443)}),
        ({"api_base_url": "https://API.example:8443/v1"}, {("api.example", 8443)}),
        ({"api_hosts": ["a.example", "b.example:1"]}, {("a.example", None), ("b.example", 1)}),
        ({"api_base_url": ""}, set()),
    ],
)
def test_the_hosts_of_a_token_are_those_named(entry: dict[str, Any], hosts: set[Any]) -> None:
    assert acme(**entry).token_hosts() == hosts


def test_a_refresh_goes_to_the_token_endpoint_unless_another_is_named() -> None:
    assert acme().refresh_endpoint == "https://id.example/token"
    other = acme(refresh={"endpoint": "https://id.example/refresh"})
    assert other.refresh_endpoint == "https://id.example/refresh"


SHOPS = {
    "token_endpoint": "https://{shop}.example/token",
    "api_base_url": "https://{shop}.example/api/",
    "api_hosts": ["{shop}.example"],
    "refresh": {"endpoint": "https://{shop}.example/refresh"},
    "variables": {"shop": {"pattern": "[a-z0-9-]+", "default": "demo"}},
}


def test_variables_are_filled_in_everywhere() -> None:
    shop = acme(**SHOPS).resolve({"shop": "acme-2"})
    assert shop.token_endpoint == "https://acme-2.example/token"
    assert shop.refresh_endpoint == "https://acme-2.example/refresh"
    assert shop.api_base_url == "https://acme-2.example/api/"
    assert shop.token_hosts() == {("acme-2.example", None)}


def test_a_variable_has_a_default() -> None:
    assert acme(**SHOPS).resolve({}).token_endpoint == "https://demo.example/token"


@pytest.mark.compliance("A24")
@pytest.mark.parametrize(
    "value", ["evil.example/", "a/b", "a.b", "a@b", "a:b", "A", "a\n", "-\x00", "{slug}", " "]
)
def test_a_variables_value_fits_its_pattern_or_is_refused(value: str) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.variables\.shop: "):
        acme(**SHOPS).resolve({"shop": value})


def test_what_is_no_text_is_no_value_of_a_variable() -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.variables\.shop: "):
        acme(**SHOPS).resolve({"shop": 5})  # type: ignore[dict-item]


@pytest.mark.compliance("A24")
@pytest.mark.parametrize("value", ["x:y@evil.example", "evil.example/#", "a b"])
def test_a_careless_pattern_does_not_make_an_endpoint_unsafe(value: str) -> None:
    careless = {**SHOPS, "variables": {"shop": {"pattern": ".*", "default": "demo"}}}
    with pytest.raises(InvalidProvider):
        acme(**careless).resolve({"shop": value})


@pytest.mark.parametrize(
    "entry",
    [
        {"token_endpoint": "https://{tenant}.example/token"},
        {"refresh": {"endpoint": "https://{tenant}.example/refresh"}},
        {"api_hosts": ["{tenant}.example"]},
    ],
)
def test_a_placeholder_without_a_variable_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidProvider, match="tenant"):
        acme(**entry)


def test_a_provider_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        acme().token_endpoint = "https://evil.example/"  # type: ignore[misc]


def test_building_a_provider_leaves_the_settings_alone() -> None:
    data = {**ACME, "api": {"headers": {"Accept": "x"}}, "scopes": ["a"]}
    before = copy.deepcopy(data)
    Provider.from_mapping("acme", data)
    assert data == before


@pytest.mark.parametrize(
    ("entry", "source"),
    [
        ({}, "userinfo"),
        ({"userinfo_endpoint": ""}, "none"),
        ({"identity": {"source": "token_response"}}, "token_response"),
    ],
)
def test_the_account_is_asked_for_where_there_is_a_place_to_ask(entry: dict[str, Any], source: str) -> None:
    assert acme(**entry).identity_source == source


# --- variables, and when they are known ---------------------------------------------------------


ORDERED = {
    "region": {"source": "callback", "pattern": "[a-z]{2}"},
    "org": {"source": "token_response", "pattern": "[a-z]+"},
    "site": {"source": "accounts", "pattern": "[a-z]+"},
}


@pytest.mark.parametrize(
    ("field", "name"),
    [
        *(("authorization_endpoint", name) for name in ORDERED),
        *(("device_authorization_endpoint", name) for name in ORDERED),
        *(("issuer", name) for name in ORDERED),
        *(("token_endpoint", name) for name in ("org", "site")),
        ("userinfo_endpoint", "site"),
        ("accounts.endpoint", "site"),
        *(("authorize.params", name) for name in ORDERED),
        *(("device.params", name) for name in ORDERED),
        *(("token_request.params", name) for name in ("org", "site")),
        *(("token_request.headers", name) for name in ("org", "site")),
        ("identity.headers", "site"),
        ("introspection_endpoint", "site"),
        ("refresh.first_endpoint", "site"),
    ],
)
def test_a_variable_that_is_known_too_late_for_a_field_is_refused(field: str, name: str) -> None:
    text = f"https://id.example/{{{name}}}/x"
    part, _, key = field.partition(".")
    value = {key: text if key.endswith("endpoint") else {"a": text}} if key else text
    if part == "accounts":
        value = {**value, "variable": "site"}  # type: ignore[dict-item]
    if part == "refresh":
        value = {**value, **EXCHANGED}  # type: ignore[dict-item]
    with pytest.raises(InvalidProvider, match=rf"^acme\.{field}: {{{name}}} is known only after"):
        acme(variables=ORDERED, **{part: value})


@pytest.mark.parametrize("field", ["api.headers", "authorize.params", "token_request.refresh_params"])
def test_a_placeholder_in_a_parameter_belongs_to_a_variable(field: str) -> None:
    part, _, key = field.partition(".")
    with pytest.raises(InvalidProvider, match=rf"^acme\.{field}: {{tenant}} is not among"):
        acme(**{part: {key: {"a": "x{tenant}"}}})


def test_json_in_a_parameter_is_no_placeholder() -> None:
    claims = '{"userinfo":{"email":null}}'
    assert acme(authorize={"params": {"claims": claims}}).resolve({}).authorize.params["claims"] == claims


def test_variables_are_filled_into_parameters_and_headers() -> None:
    variables = {"tenant": {"pattern": "[a-z]+"}, **ORDERED}
    provider = acme(
        variables=variables,
        authorize={"params": {"t": "{tenant}"}},
        device={"params": {"t": "{tenant}"}},
        token_request={
            "params": {"r": "{region}"},
            "headers": {"X-T": "{tenant}"},
            "refresh_params": {"o": "{org}"},
        },
        identity={"headers": {"X-O": "{org}"}},
        api={"headers": {"X-S": "{site}-{client_id}"}},
    ).resolve({"tenant": "t", "region": "eu", "org": "o", "site": "s"})
    assert provider.authorize.params == provider.device.params == {"t": "t"}
    assert provider.token_request.params == {"r": "eu"}
    assert provider.token_request.headers == {"X-T": "t"}
    assert provider.token_request.refresh_params == {"o": "o"}
    assert provider.identity.headers == {"X-O": "o"}
    assert provider.api.headers == {"X-S": "s-client"}


@pytest.mark.parametrize(
    "url", ["https://id.example/{not-one}/", "https://id.example/}", "https://id.example/{"]
)
def test_a_url_has_no_other_brace(url: str) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.revocation_endpoint: has a brace"):
        acme(revocation_endpoint=url)


FIELDS = ["token_endpoint", "userinfo_endpoint", "revocation_endpoint", "api_base_url"]


@pytest.mark.parametrize("field", [*FIELDS, "refresh", "api_hosts"])
@pytest.mark.parametrize("pattern", ["[a-z.]+", r"(?:[a-z]+\.)+example"])
def test_the_browser_does_not_choose_whose_server_gets_a_code_or_token(field: str, pattern: str) -> None:
    variables = {"host": {"source": "callback", "pattern": pattern}}
    value: Any = {"refresh": {"endpoint": "https://{host}/"}, "api_hosts": ["{host}"]}.get(
        field, "https://{host}/"
    )
    with pytest.raises(InvalidProvider, match=rf"^acme\.{field}.*registrable domain"):
        acme(variables=variables, **{field: value})


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://accounts.acme.{dc}/token", {"pattern": "example|test"}),
        ("https://accounts.acme.{dc}/token", {"choices": ["example", "test"]}),
        ("https://{dc}/token", {"pattern": r"(?:[a-z]+\.)+acme\.example"}),
        ("https://{dc}.acme.example/token", {"pattern": "[a-z]+"}),
        ("https://acme.example/{dc}/token", {"pattern": ".+"}),
    ],
)
def test_the_browser_may_choose_a_server_of_a_fixed_domain(url: str, variable: dict[str, Any]) -> None:
    acme(token_endpoint=url, variables={"dc": {"source": "callback", **variable}})


@pytest.mark.parametrize(
    "value", ["evil.test/", "evil.test?", "evil.test#", "evil.test\\", "u@evil.test/", "/evil.test"]
)
def test_a_value_stays_where_its_placeholder_is(value: str) -> None:
    careless = {"token_endpoint": "https://{shop}.acme.example/", "variables": {"shop": {"pattern": ".*"}}}
    with pytest.raises(InvalidProvider):
        acme(**careless).resolve({"shop": value})


@pytest.mark.parametrize(("value", "url"), [("/api/v3", "/api/v3/token"), ("", "/token")])
def test_a_path_may_follow_the_host_as_a_variable(value: str, url: str) -> None:
    entry = {
        "token_endpoint": "https://{host}{path}/token",
        "variables": {"host": {"pattern": "[a-z.]+"}, "path": {"pattern": "(?:/api/v3)?"}},
    }
    resolved = acme(**entry).resolve({"host": "git.example", "path": value})
    assert resolved.token_endpoint == f"https://git.example{url}"


@pytest.mark.parametrize("value", ["/evil.test", "evil.test/"])
def test_a_host_with_a_slash_is_none(value: str) -> None:
    entry = {
        "token_endpoint": "https://{host}{path}/token",
        "variables": {"host": {"pattern": ".*"}, "path": {"pattern": "(?:/api/v3)?"}},
    }
    with pytest.raises(InvalidProvider):
        acme(**entry).resolve({"host": value, "path": "/api/v3"})


def test_an_unprintable_value_fits_no_pattern() -> None:
    careless = {"variables": {"shop": {"pattern": "(?s).*"}}, "api": {"headers": {"X-Shop": "{shop}"}}}
    with pytest.raises(InvalidProvider):
        acme(**careless).resolve({"shop": "a\r\nHost: internal"})


NAMED = {"a": {"pattern": "x", "source": "identity"}}
EXCHANGED = {"style": "exchange_access_token", "exchange_grant_type": "x", "exchange_parameter": "x"}


# --- variables by where they come from ----------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"variables": {"a": {"pattern": "x", "source": "web"}}}, "acme.variables.a.source: expected one of"),
        ({"variables": {"client_id": {"pattern": "x"}}}, "acme.variables.client_id: "),
        ({"variables": {"a": {"choices": ["x"], "default": "y"}}}, "acme.variables.a.default: "),
        ({"variables": {"a": {"pattern": "x(y)", "default": "xy"}}}, "acme.variables.a.default: "),
        ({"accounts": {"endpoint": "https://id.example/x"}}, "acme.accounts.variable: missing"),
        ({"accounts": {"endpoint": "https://id.example/x", "variable": "a"}}, "acme.accounts.variable: not"),
        ({"accounts": {"endpoint": "http://id.example/x", "variable": "a"}}, "acme.accounts.endpoint: "),
        ({"refresh": {"style": "exchange_access_token"}}, "acme.refresh.exchange_grant_type: missing"),
        ({"token_response": {"fields": {"token": "x"}}}, "acme.token_response.fields.token: not a field"),
        ({"hooks": {"client_secret": 5}}, "acme.hooks.client_secret: expected"),
        ({"api_hosts": ["*.example"]}, "acme.api_hosts: "),
        ({"revocation": {"effect": "all"}}, "acme.revocation.effect: expected one of"),
        ({"environments": {"sandbox": 5}}, "acme.environments.sandbox: expected a table"),
        ({"variables": {"token": {"pattern": "x"}}}, "acme.variables.token: "),
        ({"variables": {"next": {"pattern": "x"}}}, "acme.variables.next: this name is reserved"),
        ({"authorize": {"client_id_parameter": "a", "params": {"a": "x"}}}, "acme.authorize.params.a: "),
        ({"authorize": {"scope_parameter": "a", "params": {"a": "x"}}}, "acme.authorize.params.a: "),
        ({"authorize": {"extra_scopes": {"state": ["x"]}}}, "acme.authorize.extra_scopes.state: "),
        (
            {"authorize": {"params": {"a": "x"}, "extra_scopes": {"a": ["x"]}}},
            "acme.authorize.extra_scopes.a",
        ),
        ({"authorize": {"extra_scopes": {"a": ["x y"]}}}, "acme.authorize.extra_scopes.a: 'x y' is not one"),
        ({"authorize": {"extra_scopes": {"a": "x"}}}, "acme.authorize.extra_scopes.a: expected a list"),
        ({"callback": {"code_parameter": "state"}}, "acme.callback.code_parameter: "),
        ({"callback": {"code_parameter": "promo_code"}}, "acme.callback.code_parameter: "),
        ({"token_request": {"omit": ["code"]}}, "acme.token_request.omit[0]: expected one of"),
        ({"token_response": {"path": ["a"], "other_entries": ["b"]}}, "acme.token_response.other_entries: "),
        ({"refresh": {"first_endpoint": "https://id.example/"}}, "acme.refresh.first_endpoint: only"),
        ({"refresh": {**EXCHANGED, "first_endpoint": "http://id.example/"}}, "acme.refresh.first_endpoint: "),
        ({"client_secret": "", "refresh": {"authentication": "client_secret_post"}}, "acme.client_secret: "),
        ({"identity": {"json": {"query": "{ me }"}}}, "acme.identity.json: needs"),
        ({"identity": {"source": "introspection"}}, "acme.identity.source: introspection needs"),
        ({"accounts": {"variables": {"a": "x"}}}, "acme.accounts.variables.a: not among"),
        ({"accounts": {"preferred": "a..b"}}, "acme.accounts.preferred: "),
        ({"revocation": {"params": {"a": "{nobody}"}}}, "acme.revocation.params: {nobody} is not among"),
        ({"token_request": {"params": {"a": "{token}"}}}, "acme.token_request.params: {token} is not among"),
        ({"variables": NAMED, "identity": {"source": "none"}}, "acme.variables.a.source: identity"),
        ({"variables": NAMED, "identity": {"source": "callback"}}, "acme.variables.a.source: identity"),
    ],
)
def test_what_cannot_work_is_named_by_its_path(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidProvider) as refused:
        acme(**wrong)
    assert str(refused.value).startswith(path)


LATE = {
    "api_base_url": "https://{instance}/v1/",
    "variables": {
        "instance": {
            "source": "token_response",
            "pattern": "(?:https://)?((?:[a-z]+\\.)+mills\\.example)",
        }
    },
}


def test_what_waits_for_an_answer_is_no_host_yet() -> None:
    waiting = acme(**LATE).resolve({})
    assert waiting.token_endpoint == "https://id.example/token"
    assert waiting.token_hosts() == frozenset()
    there = acme(**LATE).resolve({"instance": "https://a.mills.example"})
    assert there.token_hosts() == {("a.mills.example", 443)}
    assert there == acme(**LATE).resolve({"instance": "a.mills.example"})


@pytest.mark.parametrize("value", ["https://evil.example", "a.mills.example/", "mills.example", "\n", 5])
def test_a_late_value_must_fit_too(value: Any) -> None:
    with pytest.raises(InvalidProvider, match=r"^acme\.variables\.instance: "):
        acme(**LATE).resolve({"instance": value})


def test_a_missing_variable_is_named() -> None:
    shop = {**SHOPS, "variables": {"shop": {"pattern": "[a-z]+", "source": "user"}}}
    with pytest.raises(InvalidProvider, match=r"^acme\.variables\.shop: missing"):
        acme(**shop).resolve({})


def test_many_tenants_are_not_all_remembered() -> None:
    provider = acme(**SHOPS)
    for number in range(600):
        assert provider.resolve({"shop": f"s{number}"}).api_hosts == (f"s{number}.example",)
    assert len(provider._resolved) <= 256


def test_a_client_id_in_a_path_is_quoted() -> None:
    entry = {"client_id": "a/../b", "revocation_endpoint": "https://id.example/{client_id}/token"}
    assert acme(**entry).resolve({}).revocation_endpoint == "https://id.example/a%2F..%2Fb/token"
