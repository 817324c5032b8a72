"""Obtains a client's own token (RFC 6749 section 4.4): by the same lease, one request for all callers.

No user is behind such a token. A request spends nothing, and no user has to reconnect. A lost response
leaves nothing in doubt. After a refusal, an operator must correct the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oauth_connect.engine.refresh import Refresh
from oauth_connect.engine.store import Row
from oauth_connect.engine.timing import MISCONFIGURED_PAUSE, pause
from oauth_connect.errors import (
    CallError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.protocol.grants import refusals
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

CLIENT_CREDENTIALS = "client_credentials"


@dataclass(frozen=True, slots=True)
class ClientCredentialsRequest:
    """The parameters of a client's request: scopes (RFC 6749 section 3.3), resource (RFC 8707), audience."""

    scopes: tuple[str, ...] = ()
    resource: str = ""
    audience: str = ""


class ClientCredentials(Refresh):
    """Obtains the client's own token for one caller. The rest is as in ``Refresh``."""

    def __init__(self, *args: Any, request: ClientCredentialsRequest, **options: Any) -> None:
        super().__init__(*args, **options)
        self.request = request

    def _read(self) -> Row:
        """Return the row. A row without a token, new or revoked, is valid here: a new token is requested."""
        row = self.store.read()
        if row is None:
            raise ReauthorizationRequired(
                "The row of this token has been deleted; nothing was sent.", reason="disconnected"
            )
        return row

    def _lead(self, row: Row, owner: str, claimed_at: float) -> Row | None:
        saved = super()._lead(row, owner, claimed_at)
        # No token: staff has revoked it while the request was in flight. Read again.
        return saved if saved is not None and saved.token is not None else None

    def _renew(self, row: Row, owner: str) -> Token | Row | None:
        request = self.request
        try:
            return self.server.client_credentials(
                scopes=request.scopes, resource=request.resource, audience=request.audience
            )
        except ProviderUnavailable as error:
            return self._failed(row, owner, error, error.code, pause(row.failures + 1, error.retry_after))
        except (ProviderMisconfigured, ProviderRejected) as refused:
            # Other codes refuse only this request's scopes or resource. They raise no alarm for the provider.
            alarm = refused.error in refusals.MISCONFIGURED
            failure = refusal(self.server.provider, request, refused)
            failure.endpoint = refused.endpoint
            return self._failed(row, owner, failure, refused.error, MISCONFIGURED_PAUSE, alarm=alarm)

    def _error_of(self, row: Row, now: datetime) -> CallError:
        error = super()._error_of(row, now)
        if isinstance(error, ProviderMisconfigured | ProviderRejected):
            return refusal(self.server.provider, self.request, error)
        return error

    def _ended(self, reason: str) -> CallError:
        return ProviderMisconfigured(
            f"The settings of {self.server.provider.slug!r} name another client_id than the one that "
            "obtained this token. Nothing was sent. Call machine_session or machine_connection again.",
            error=reason,
        )


def refusal(
    provider: Provider, request: ClientCredentialsRequest, error: ProviderMisconfigured | ProviderRejected
) -> ProviderMisconfigured:
    """Return the refusal as an error of the settings, here or at the provider. No user can correct it."""
    if error.error in ("unauthorized_client", "unsupported_grant_type"):
        grant = provider.client_credentials.grant_type
        hint = (
            f"At the provider, allow the client credentials grant ({grant!r}) for the client_id of "
            f"{provider.slug!r}. If the grant has another name there, set client_credentials.grant_type."
        )
    elif error.error == "invalid_scope":
        scopes = " ".join(request.scopes) or "none"
        hint = f"Compare the requested scopes ({scopes}) with those that the provider allows this client."
    elif error.error == "invalid_target":
        resource = request.resource or "none"
        hint = f"Compare resource ({resource}) and audience with the provider's documentation (RFC 8707)."
    elif isinstance(error, ProviderMisconfigured):
        return error
    else:
        hint = f"Compare the entry {provider.slug!r} with the provider's documentation."
    said = f" The provider says: {error.description}" if error.description else ""
    return ProviderMisconfigured(
        f"{provider.label} issues this client no token of its own ({error.error}). {hint}{said}",
        error=error.error,
        description=error.description,
        status=error.status,
    )
