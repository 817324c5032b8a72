"""All errors that this package raises deliberately. Each message says what to do next.

An error that ``http.get()`` can raise is also a ``requests.RequestException``. Code that handles failed calls
handles it too. No error contains a token.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from oauth_connect.models import Connection

DESCRIPTION_LIMIT = 300


def printable_line(text: object, limit: int = DESCRIPTION_LIMIT) -> str:
    """Return a server's text as one printable line of at most ``limit`` characters."""
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
    """A provider's definition is wrong. The message begins with the path of the wrong field."""


class InvalidOwner(OAuthConnectError, ValueError):
    """An owner's key is empty, too long, holds NUL, or is not that of its user. Nothing was sent."""


class IncompleteConnection(OAuthConnectError, ValueError):
    """A connection cannot be saved: its columns do not say whose account it is. Nothing was written."""


class AlreadyConnected(OAuthConnectError):
    """The owner has a connection to this account already. Nothing was changed.

    ``connection``: that connection.
    """

    def __init__(self, message: str = "", *, connection: Any = None) -> None:
        super().__init__(message)
        self.connection: Connection | None = connection


class AmbiguousConnection(OAuthConnectError, LookupError):
    """Several connections match, and the owner has not chosen one. Select one by ``account_id``.

    ``choose_url``: the path of the page at which the owner chooses; "" where the site does not include our
    URLs. ``connections``: those to choose from.
    """

    def __init__(self, message: str = "", *, choose_url: str = "", connections: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.choose_url = choose_url
        self.connections = connections


class CallbackRefused(OAuthConnectError):
    """An authorization response was refused (RFC 6749 section 10.12). Nothing has been stored.

    ``code`` is a stable word for tests and logs. ``error`` is the provider's own error code, cleaned, if the
    response has one. ``connect_url`` is the path that starts the same attempt again, if it is known. A token
    that was already issued, to another user's account, has been dropped.
    """

    def __init__(
        self, message: str = "", *, code: str = "refused", error: str = "", connect_url: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.error = error
        self.connect_url = connect_url


class RepeatedResponse(CallbackRefused):
    """The browser has sent an authorization response a second time. The first request finishes the flow.

    ``next_path`` is the path to which the first request leads. ``refused`` is the code of the first
    request's error, or "" if it has connected the account or is still running. ``unavailable``: that error
    was a failed request to the provider. ``error`` is the provider's word in it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        next_path: str = "",
        refused: str = "",
        unavailable: bool = False,
        **details: Any,
    ) -> None:
        super().__init__(message, code="state_replayed", **details)
        self.next_path = next_path
        self.refused = refused
        self.unavailable = unavailable


class CallError(OAuthConnectError, requests.RequestException):
    """Base of the errors that a call to an API can raise.

    ``endpoint``: the field of the provider whose endpoint was asked (``token_endpoint``,
    ``userinfo_endpoint``, ``accounts.endpoint``, ...); empty if no request of this package failed.
    ``connect_url``: the path at which the user can start again, if it is known.
    """

    endpoint = ""
    connect_url = ""


class ProviderUnavailable(CallError):
    """The provider is temporarily unavailable, or cannot be reached. Try again later.

    ``retry_after`` is in seconds, or None if unknown. ``answer_lost``: the request was sent, and no complete
    response arrived. Its effect is unknown.
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
    """An open transaction locks the connection's row. Nothing was sent.

    Refresh before the transaction changes the row, or after it.
    """

    code = "connection_locked"


class ConnectionHidden(CallError, LookupError):
    """The caller's database connection shows the row, and a connection of this package does not.

    Its schema, role or row-level security differ. Nothing was sent. Set
    ``OAUTH_CONNECT["CONNECTION_STATE"]``, so that this package's connections see the same rows
    (docs/tenants.md).
    """

    code = "connection_hidden"


class ProtocolError(CallError):
    """Base of the two errors for a request that the provider refused."""

    def __init__(self, message: str = "", *, error: str = "", description: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.error = error
        self.description = description
        self.status = status

    @property
    def code(self) -> str:
        return self.error


class ProviderRejected(ProtocolError):
    """The provider refused the request (RFC 6749 section 5.2). ``error`` is its code."""


class ProviderMisconfigured(ProtocolError):
    """This site's settings for the provider are wrong (``invalid_client``, ...). No user can correct them."""


class ReauthorizationRequired(CallError):
    """The user must connect or reconnect the account. Send the user to ``connect_url``.

    ``reason``: ``revoked`` (the provider ended it), ``rotation_lost`` (a refresh's response may have been
    lost), ``expired`` and ``no_refresh_token`` (there is no refresh token), ``disconnected``,
    ``not_connected``, ``missing_scopes``, ``site_undecided`` (the account has access to several sites, and
    the user has chosen none), ``owner_inactive`` (the user has been deactivated),
    ``client_changed`` (the settings name another client_id than the one that obtained the token),
    ``account_changed`` (a refresh returned the token of another account, which is not used),
    ``refused_without_reason`` (the provider has refused this refresh token for a day, and others not).
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
        self.connection: Connection | None = connection
        self.connect_url = connect_url

    @property
    def code(self) -> str:
        return self.reason


class OwnerMismatch(CallError):
    """The owner and the user of a connection are not the same. Nothing was sent, and nothing uses it.

    ``manage.py oauth_repair_owners`` corrects such rows.
    """

    code = "owner_mismatch"


class ForbiddenDestination(CallError, ValueError):
    """This connection's token must not be sent to the URL. Nothing was sent."""


class KeyUnavailable(CallError):
    """No configured key unseals a value, or the value was sealed for another row. Nothing was changed.

    Put the key back into ``OAUTH_CONNECT["KEYS"]``.
    """

    code = "key_unavailable"


class KeyringUnavailable(CallError):
    """The keyring of this machine is missing or locked, or is a kind that must not store a token."""

    code = "keyring_unavailable"
