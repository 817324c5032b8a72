"""Says how a client authenticated, for the message of a refusal. Never quotes the secret."""

from __future__ import annotations

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import ClientAuthentication

SENT_BY_BASIC = {
    "encoded": "by HTTP Basic, form-encoded (RFC 6749 section 2.3.1)",
    "raw": "by HTTP Basic, as it is (RFC 7617)",
    "secret_as_username": "by HTTP Basic, as the user without a password",
}
OTHERWISE = {
    "encoded": 'token_request.basic = "raw" or token_endpoint_auth_method = "client_secret_post"',
    "raw": 'token_request.basic = "encoded" or token_endpoint_auth_method = "client_secret_post"',
    "secret_as_username": 'token_request.basic = "raw" or token_endpoint_auth_method = "client_secret_post"',
    "client_secret_post": 'token_endpoint_auth_method = "client_secret_basic"',
}


def advice(provider: Provider, method: ClientAuthentication | None = None) -> str:
    """Return how the client's secret was sent, and the settings that send it otherwise.

    ``method``: of an endpoint that differs from the token endpoint.
    """
    method = method or provider.client_authentication
    basic = provider.token_request.basic
    if method == "none":
        return "No client secret was sent. If the client has one, set client_secret."
    sent = "in the body" if method == "client_secret_post" else SENT_BY_BASIC[basic]
    otherwise = OTHERWISE[basic if method == "client_secret_basic" else method]
    return f"The secret was sent {sent}. If this server expects it otherwise, set {otherwise}."
