"""How a client gets a token of its own (RFC 6749 section 4.4): by the same lease, one request for all.

No user stands behind such a token. So nothing is spent by asking, nobody has to connect anything again, a
lost answer leaves nothing in doubt, and a refusal is for whoever looks after the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oauth_connect.engine.refresh import MISCONFIGURED_PAUSE, Refresh, pause
from oauth_connect.engine.store import Row
from oauth_connect.errors import (
    CallError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

CLIENT_CREDENTIALS = "client_credentials"


@dataclass(frozen=True, slots=True)
class ClientCredentialsRequest:
    """What a client asks for: scopes (RFC 6749 section 3.3), resource (RFC 8707), audience."""

    scopes: tuple[str, ...] = ()
    resource: str = ""
    audience: str = ""


class ClientCredentials(Refresh):
    """One caller's way to the client's own token; the rest as in ``Refresh``."""

    def __init__(self, *args: Any, request: ClientCredentialsRequest, **options: Any) -> None:
        super().__init__(*args, **options)
        self.request = request

    def _read(self) -> Row:
        """Read the row; one without a token, new or revoked, is asked for a new one."""
        row = self.store.read()
        if row is None:
            raise ReauthorizationRequired(
                "The row of this token has been deleted; nothing was sent.", reason="disconnected"
            )
        return row

    def _lead(self, row: Row, owner: str, claimed_at: float) -> Row | None:
        led = super()._lead(row, owner, claimed_at)
        # Revoked by staff while the request was under way: look again.
        return led if led is not None and led.token is not None else None

    def _renew(self, row: Row, owner: str) -> Token | Row | None:
        wanted = self.request
        try:
            return self.server.client_credentials(
                scopes=wanted.scopes, resource=wanted.resource, audience=wanted.audience
            )
        except ProviderUnavailable as error:
            return self._failed(row, owner, error, error.code, pause(row.failures + 1, error.retry_after))
        except (ProviderMisconfigured, ProviderRejected) as refused:
            # What another call asked for is no alarm for the whole provider.
            alarm = refused.error in responses.MISCONFIGURED
            told = refusal(self.server.provider, wanted, refused)
            return self._failed(row, owner, told, refused.error, MISCONFIGURED_PAUSE, alarm=alarm)

    def _error_of(self, row: Row, now: datetime) -> CallError:
        error = super()._error_of(row, now)
        if isinstance(error, ProviderMisconfigured | ProviderRejected):
            return refusal(self.server.provider, self.request, error)
        return error

    def _ended(self, reason: str) -> CallError:
        return ProviderMisconfigured(
            f"The settings of {self.server.provider.slug!r} name another client_id than the one that got "
            "this token; nothing was sent. Ask machine_session or machine_connection for a new one.",
            error=reason,
        )


def refusal(
    provider: Provider, request: ClientCredentialsRequest, error: ProviderMisconfigured | ProviderRejected
) -> ProviderMisconfigured:
    """Return a refusal as what it is here: no user can mend it, only settings here or at the provider."""
    if error.error in ("unauthorized_client", "unsupported_grant_type"):
        hint = f"Allow the client credentials grant there for the client_id of {provider.slug!r}."
    elif error.error == "invalid_scope":
        scopes = " ".join(request.scopes) or "none"
        hint = f"Compare the scopes asked for ({scopes}) with what the provider allows this client."
    elif error.error == "invalid_target":
        resource = request.resource or "none"
        hint = f"Compare resource ({resource}) and audience with the provider's page (RFC 8707)."
    elif isinstance(error, ProviderMisconfigured):
        return error
    else:
        hint = f"Compare the entry {provider.slug!r} with the provider's page."
    said = f" It says: {error.description}" if error.description else ""
    return ProviderMisconfigured(
        f"{provider.label} gives this client no token of its own ({error.error}). {hint}{said}",
        error=error.error,
        description=error.description,
        status=error.status,
    )
