"""Values that the parts of the fake provider pass on: an account, an authorization request, a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from zlib import crc32


@dataclass(frozen=True)
class Account:
    """An account at the fake provider. ``id`` never changes. ``name`` is the login name."""

    id: str
    name: str

    @property
    def email(self) -> str:
        return f"{self.name}@example.com"

    @classmethod
    def named(cls, account: str | Account) -> Account:
        """Return the account with this name. Its id depends on the name alone, in each process."""
        return account if isinstance(account, Account) else cls(str(crc32(account.encode())), account)


class Refused(Exception):
    """A request that is refused with this error code (RFC 6749 section 5.2, RFC 8628 section 3.5)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True, kw_only=True, repr=False)
class AuthorizationRequest:
    """What the client asked for (RFC 6749 section 4.1.1), and the parameters as it ``sent`` them.

    ``challenge`` is "" without PKCE.
    """

    client_id: str
    redirect_uri: str = ""
    scopes: tuple[str, ...] = ()
    state: str | None = None
    challenge: str = ""
    nonce: str = ""
    form_post: bool = False
    sent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the user decided. ``account``: None denies. ``scopes``: None grants what the client asked for."""

    account: Account | None = None
    scopes: tuple[str, ...] | None = None

    def granted(self, requested: tuple[str, ...]) -> tuple[Account, tuple[str, ...]]:
        """Return the account and the granted scopes. Raises Refused if the user denied."""
        if self.account is None:
            raise Refused("access_denied", "The user denied the request.")
        return self.account, requested if self.scopes is None else self.scopes


def check_status(status: object) -> None:
    """Raise ValueError unless this is the status of a final HTTP response (RFC 9110 section 15)."""
    if not (isinstance(status, int) and 200 <= status <= 599):
        raise ValueError(f"status: {status!r} is not the status of an HTTP response (200 to 599).")


def check_body(body: object) -> None:
    """Raise ValueError unless this is the text or the bytes of a body."""
    if not isinstance(body, bytes | str):
        raise ValueError(f"body: pass str or bytes, not {type(body).__name__}. json.dumps() makes a str.")


def check_headers(headers: Mapping[str, object]) -> None:
    """Raise ValueError for a header that would not arrive as it is (RFC 9110 section 5.5)."""
    for name, value in headers.items():
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise ValueError(f"headers: the value of {name} must be one line of ASCII text, such as str(3).")
