"""What the message of a refused client says. No sockets."""

from __future__ import annotations

import pytest

from oauth_connect.errors import ProviderMisconfigured
from oauth_connect.protocol.grants.refusals import error_for
from oauth_connect.redaction import redacted
from tests.protocol.providers import acme

SECRET = "canary/secret+"


@pytest.mark.parametrize(
    ("entry", "sent", "otherwise"),
    [
        ({}, "by HTTP Basic, form-encoded", 'token_request.basic = "raw"'),
        ({"token_request": {"basic": "raw"}}, "by HTTP Basic, as it is", 'token_request.basic = "encoded"'),
        (
            {"token_request": {"basic": "secret_as_username"}},
            "by HTTP Basic, as the user without a password",
            'token_request.basic = "raw"',
        ),
        (
            {"token_endpoint_auth_method": "client_secret_post"},
            "in the body",
            'token_endpoint_auth_method = "client_secret_basic"',
        ),
        ({"client_secret": ""}, "No client secret was sent", "set client_secret"),
        ({"token_endpoint_auth_method": "none"}, "No client secret was sent", "set client_secret"),
    ],
    ids=["encoded", "raw", "secret as user", "body", "no secret", "none"],
)
def test_a_refused_client_reads_how_its_secret_was_sent(entry, sent: str, otherwise: str) -> None:
    message = str(error_for(acme(**{"client_secret": SECRET, **entry}), "invalid_client"))
    assert sent in message
    assert otherwise in message
    assert "canary" not in message
    assert redacted(message) == message


def test_another_refusal_is_not_about_the_secret() -> None:
    error = error_for(acme(), "unsupported_grant_type")
    assert isinstance(error, ProviderMisconfigured)
    assert "secret was sent" not in str(error)
