"""What users paste for the shop or instance of a preset."""

from __future__ import annotations

import pytest

from oauth_connect import presets
from oauth_connect.errors import InvalidProvider
from oauth_connect.flows.typed_values import typed_value
from oauth_connect.protocol.provider import Provider


def preset(name: str) -> Provider:
    client = {"client_id": "c", "client_secret": "s"}
    return Provider.from_mapping(name, presets.merge(client, presets.load(name) or {}))


@pytest.mark.parametrize(
    ("name", "variable", "typed", "value"),
    [
        ("shopify", "shop", "Acme.myshopify.com", "acme"),
        ("shopify", "shop", "https://acme.myshopify.com/admin/orders?x=1", "acme"),
        ("shopify", "shop", "admin.shopify.com/store/acme", "acme"),
        ("shopify", "shop", "https://admin.shopify.com/store/acme/products/1", "acme"),
        ("gitlab", "host", "https://Git.Acme.example:443/group/project#readme", "git.acme.example"),
        ("gitlab", "host", "git.acme.example:8443", "git.acme.example:8443"),
        ("github", "web_host", "https://GitHub.acme.example./login", "github.acme.example"),
        (
            "salesforce",
            "login_host",
            "https://Acme.my.salesforce.com/home/home.jsp",
            "acme.my.salesforce.com",
        ),
    ],
)
def test_a_pasted_address_is_the_presets_value(name, variable, typed, value) -> None:
    assert typed_value(preset(name), variable, typed) == value


@pytest.mark.parametrize(
    ("name", "variable", "typed"),
    [
        ("shopify", "shop", "https://acme.example.com/admin"),
        ("shopify", "shop", "https://admin.shopify.com/"),
        ("shopify", "shop", "https://evil.example/acme.myshopify.com"),
        ("gitlab", "host", "https://user:word@git.example/"),
        ("salesforce", "login_host", "https://salesforce.com.evil.example/"),
    ],
)
def test_an_address_elsewhere_is_refused(name, variable, typed) -> None:
    with pytest.raises(InvalidProvider):
        typed_value(preset(name), variable, typed)
