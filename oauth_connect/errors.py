"""Every error this package raises on purpose; each message says what to do next.

Those that can surface inside ``http.get()`` are also ``requests.RequestException``, so that
code which already handles "the call failed" handles them too. No error carries a token.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import requests

DESCRIPTION_LIMIT = 300


def printable_line(text: object, limit: int = DESCRIPTION_LIMIT) -> str:
    """Return a server's words fit for a message: one line, printable, at most ``limit`` characters."""
    printable = (
        " " if character.isspace() else character
        for character in str(text)[: limit * 4]
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    line = " ".join("".join(printable).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class OAuthConnectError(Exception):
    """Root of all errors of this package."""


class InvalidProvider(OAuthConnectError, ValueError):
    """A provider's definition is wrong; the message begins with the path of what is wrong."""


class AmbiguousConnection(OAuthConnectError, LookupError):
    """Several connections fit; name one by ``account_id``."""


class CallbackRefused(OAuthConnectError):
    """An authorization response that must not be acted upon (RFC 6749 section 10.12).

    ``code`` is a stable word for tests and logs; nothing has been stored. A token that had
    already been issued to somebody else's account has been dropped.
    """

    def __init__(self, message: str = "", *, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class CallError(OAuthConnectError, requests.RequestException):
    """Base of the errors that can surface inside a call to an API."""


class ProviderUnavailable(CallError):
    """Transient: the provider, or the way to it, is down. Try again later.

    ``retry_after`` is in seconds, or None where nobody said. ``answer_lost`` tells that the request
    had been sent and its answer never arrived whole, so that its effect is unknown.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "unavailable",
        retry_after: float | None = None,
        answer_lost: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.answer_lost = answer_lost


class ConnectionLocked(CallError):
    """The connection's row is locked by a transaction that is still open; nothing was sent.

    Refresh before changing the row in a transaction, or outside of it.
    """

    code = "connection_locked"


class ProtocolError(CallError):
    """Base of the two answers that say the request itself was refused."""

    def __init__(self, message: str = "", *, error: str = "", description: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.error = error
        self.description = description
        self.status = status

    @property
    def code(self) -> str:
        return self.error


class ProviderRejected(ProtocolError):
    """The provider refused the request (RFC 6749 section 5.2); ``error`` is its code."""


class ProviderMisconfigured(ProtocolError):
    """This site's settings for the provider are wrong; no user can mend it (``invalid_client``, ...)."""


class ReauthorizationRequired(CallError):
    """The user must connect the account (again); send them to ``connect_url``.

    ``reason``: ``revoked`` (the provider ended it), ``rotation_lost`` (a refresh's answer may have been
    lost), ``expired`` and ``no_refresh_token`` (nothing to renew it with), ``disconnected``,
    ``not_connected``, ``missing_scopes``, ``owner_inactive`` (the user has been deactivated),
    ``client_changed`` (the settings name another app than the one that obtained the token).
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "revoked",
        connection: Any = None,
        connect_url: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.connection = connection
        self.connect_url = connect_url

    @property
    def code(self) -> str:
        return self.reason


class ForbiddenDestination(CallError, ValueError):
    """The URL is not one that this connection's token may be sent to; nothing was sent."""


class KeyUnavailable(CallError):
    """No configured key opens a sealed value, or it was sealed for another row. Nothing was changed.

    Put the key back into ``OAUTH_CONNECT["KEYS"]``.
    """

    code = "key_unavailable"


class KeyringUnavailable(CallError):
    """The keyring of this machine is missing, locked, or of a kind that must not hold a token."""

    code = "keyring_unavailable"
