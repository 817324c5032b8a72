"""The other answers of a provider: refusals, accounts, sites, device codes, revocations, registrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oauth_connect.protocol.provider import Provider
from oauth_connect.testing.server.messages import Account
from oauth_connect.testing.server.shapes.accounts import fields_of, sites_of
from oauth_connect.testing.server.shapes.documents import document_of, put, with_lists
from oauth_connect.testing.server.shapes.written import (
    JSON,
    Written,
    prefers_forms,
    with_success,
    written,
    written_as_asked,
)

HTTP = "http_"  # how an entry names a status without a code


def refusal(
    provider: Provider | None, error: str, description: str = "", status: int = 400, *, accept: str = JSON
) -> Written:
    """Return an error response (RFC 6749 section 5.2) with the provider's own code for an error of the RFC.

    A provider that answers errors with success keeps that, instead of status 400.
    """
    if provider is None:
        return written(_rfc_error(error, description), status)
    code, text, status = _provider_code(provider, error, status)
    document: dict[str, Any] = {}
    rules = provider.token_response
    _put_code(provider, document, code)
    if said := ". ".join(filter(None, (text, description))):
        put(document, (rules.error_description_field or "error_description").split("."), said)
    if rules.success_field:
        document[rules.success_field] = False
    if status == 400 and _refuses_with_success(provider):
        status = 200
    return written_as_asked(provider, with_lists(document), accept, status)


def _put_code(provider: Provider, document: dict[str, Any], code: str) -> None:
    path = provider.token_response.error_field or "error"
    is_number = code.isdecimal() and not code.startswith("0")
    if code:
        put(document, path.split("."), int(code) if is_number else code)


def _rfc_error(error: str, description: str) -> dict[str, str]:
    return {"error": error} | ({"error_description": description} if description else {})


def _provider_code(provider: Provider, error: str, status: int) -> tuple[str, str, int]:
    """Return the provider's code, the start of its description, and the status, for an error of the RFC."""
    errors = provider.token_response.errors
    key = next((key for key, meaning in errors.items() if meaning == error), error)
    code, _, text = key.partition(": ")
    if code.startswith(HTTP) and code.removeprefix(HTTP).isdecimal():
        return "", text, int(code.removeprefix(HTTP))
    return code, text, status


def _refuses_with_success(provider: Provider) -> bool:
    """Return whether errors have status 200, as at Slack, and at GitHub: codes of its own, and forms."""
    rules = provider.token_response
    return bool(rules.success_field) or (prefers_forms(provider) and bool(rules.errors))


def userinfo_answer(provider: Provider | None, account: Account) -> Written:
    """Return the account as userinfo_endpoint describes it: at the paths of the entry's ``identity``."""
    document = {} if provider is None else document_of(fields_of(provider, "userinfo", account))
    if provider is None or provider.issuer or provider.identity_source != "userinfo":
        for name, value in _claims(account).items():
            document.setdefault(name, value)
    if provider is not None:
        _put_code(provider, document, _code_of_success(provider))
    return written(with_success(provider, document))


def _code_of_success(provider: Provider) -> str:
    """Return the error code that means a success (TikTok), or ""."""
    return next((code for code, meaning in provider.token_response.errors.items() if not meaning), "")


def introspection_answer(provider: Provider | None, account: Account, response: Mapping[str, Any]) -> Written:
    """Return what introspection says of a valid access token (RFC 7662 section 2.2, in ``response``)."""
    document = {} if provider is None else document_of(fields_of(provider, "introspection", account))
    named = {"active": True, "sub": account.id, "username": account.name}
    return written({**named, **response, **with_lists(document)})


def _claims(account: Account) -> dict[str, str]:
    """Return claims of OpenID Connect Core section 5.1."""
    return {
        "sub": account.id,
        "name": account.name,
        "preferred_username": account.name,
        "email": account.email,
    }


def accounts_answer(provider: Provider | None, account: Account, *, sites: int = 1) -> Written:
    """Return what a token can access, as the entry's ``accounts`` reads it. ``sites``: how many."""
    if provider is None:
        return written([{"id": account.id, "name": account.name}])
    document: Any = sites_of(provider, account, sites)
    for key in reversed(provider.accounts.path):
        document = {key: document}
    return written(document)


def device_answer(provider: Provider | None, response: Mapping[str, Any], *, accept: str = JSON) -> Written:
    """Return a device authorization response (RFC 8628 section 3.2)."""
    return written_as_asked(provider, with_success(provider, dict(response)), accept)


def revocation_answer(provider: Provider | None) -> Written:
    """Return the answer to a revocation: empty (RFC 7009 section 2.2), or one that marks a success."""
    document = with_success(provider, {})
    return written(document) if document else Written(200, JSON, b"")


def registration_answer(client_id: str, client_secret: str) -> Written:
    """Return the answer to the registration of a client at a Mastodon server."""
    return written({"id": "1", "client_id": client_id, "client_secret": client_secret})
