"""What the fake provider remembers: accounts, codes, grants and their tokens. One lock, no I/O.

A grant is one consent of one account. Its refresh tokens are a family: each is good for one use, and a second
use ends the grant (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from itertools import count
from math import inf
from typing import Any

from oauth_connect.testing.server.messages import Account, AuthorizationRequest, Refused
from oauth_connect.testing.server.rules import Rules

CODE_LIFETIME = 600  # seconds (RFC 6749 section 4.1.2)
UNKNOWN = (
    "The fake provider has not issued this token. Pass a token of this fake, in its newest form: after a "
    "refresh, read it from the connection again."
)


class UnknownToken(LookupError):
    """The fake provider has not issued this token."""


@dataclass(kw_only=True, eq=False, repr=False)
class Grant:
    """A consent, with its tokens. ``number`` is its public name, for the console.

    ``access_tokens``: each with the time of its expiry, in seconds since 1970 (infinite: it does not expire).
    """

    number: int
    account: Account
    client_id: str
    scopes: tuple[str, ...]
    nonce: str = ""
    tokens_expire: bool = True
    has_refresh_tokens: bool = True
    refresh_token: str = ""
    access_tokens: dict[str, float] = field(default_factory=dict)
    has_ended: bool = False

    @property
    def expires_at(self) -> float:
        """When the newest access token expires."""
        return max(self.access_tokens.values(), default=0.0)


@dataclass(kw_only=True, eq=False, repr=False)
class Code:
    """An authorization code. ``grant`` is set when the code has been used."""

    request: AuthorizationRequest
    account: Account
    scopes: tuple[str, ...]
    expires_at: float
    grant: Grant | None = None


class Grants:
    """All codes and grants. Each method is atomic.

    ``lifetime``: seconds until an access token expires. ``write_access_token``: returns an access token, from
    random text and its expiry. A method that reads a token request raises Refused.
    """

    def __init__(self, lifetime: int, now: Callable[[], float] = time.time) -> None:
        self.lifetime = lifetime
        self.write_access_token: Callable[[str, float], str] = lambda opaque, expires_at: opaque
        self._now = now
        self._lock = threading.RLock()
        self._numbers = count(1)
        self._codes: dict[str, Code] = {}
        self._by_access: dict[str, Grant] = {}
        self._by_refresh: dict[str, Grant] = {}
        self._all: list[Grant] = []

    # --- a user consents ------------------------------------------------------------------------

    def new_code(self, request: AuthorizationRequest, account: Account, scopes: Sequence[str]) -> str:
        """Return a code for this consent (RFC 6749 section 4.1.2)."""
        code = _new("code")
        with self._lock:
            expires_at = self._now() + CODE_LIFETIME
            self._codes[code] = Code(
                request=request, account=account, scopes=tuple(scopes), expires_at=expires_at
            )
        return code

    def redeem(
        self, rules: Rules, *, code: str, client_id: str, redirect_uri: str | None, verifier: str
    ) -> tuple[Grant, dict[str, Any]]:
        """Return the grant of a code and its token response. A second use of the code ends the grant."""
        with self._lock:
            found = self._codes.get(code)
            if found is None or found.request.client_id != client_id or found.expires_at <= self._now():
                raise Refused("invalid_grant", "The code is unknown, expired, or of another client.")
            if found.grant is not None:
                self._end(found.grant)
                raise Refused("invalid_grant", "The code was used before. Its grant has ended.")
            _check_redirect_uri(found.request.redirect_uri, redirect_uri, rules)
            _check_verifier(found.request.challenge, verifier)
            found.grant = self.new_grant(
                rules, found.account, found.scopes, client_id, nonce=found.request.nonce
            )
            return found.grant, self._response(found.grant)

    def new_grant(
        self, rules: Rules, account: Account, scopes: Sequence[str], client_id: str, *, nonce: str = ""
    ) -> Grant:
        """Return a new grant, which has no access token yet."""
        with self._lock:
            grant = Grant(
                number=next(self._numbers),
                account=account,
                client_id=client_id,
                scopes=tuple(scopes),
                nonce=nonce,
                tokens_expire=rules.tokens_expire,
                has_refresh_tokens=rules.issues_refresh_tokens,
            )
            self._all.append(grant)
            return grant

    def issue(self, grant: Grant) -> dict[str, Any]:
        """Return a token response of this grant (RFC 6749 section 5.1)."""
        with self._lock:
            return self._response(grant)

    # --- a client refreshes ---------------------------------------------------------------------

    def refresh(
        self, rules: Rules, *, refresh_token: str, client_id: str | None, scopes: Sequence[str] | None
    ) -> tuple[Grant, dict[str, Any]]:
        """Return the grant and the next token response (RFC 6749 section 6)."""
        with self._lock:
            grant = self._by_refresh.get(refresh_token)
            if grant is None or client_id not in (None, grant.client_id):
                raise Refused("invalid_grant", "The refresh token is unknown, or of another client.")
            if grant.has_ended:
                raise Refused("invalid_grant", "The grant has ended. The user must consent again.")
            if grant.refresh_token != refresh_token:
                self._end(grant)
                raise Refused("invalid_grant", "The refresh token was used before. Its grant has ended.")
            if scopes is not None and not {*scopes} <= {*grant.scopes}:
                raise Refused("invalid_scope", "A refresh cannot widen the scopes of the grant.")
            if rules.rotates:
                grant.refresh_token = ""
            return grant, self._response(grant, scopes, repeats=rules.rotates)

    def exchange(self, *, access_token: str) -> tuple[Grant, dict[str, Any]]:
        """Return a newer access token for a valid one. Some providers have this in place of a refresh."""
        with self._lock:
            grant = self._valid(access_token)
            if grant is None:
                raise Refused("invalid_grant", "The access token is unknown, or it has expired.")
            return grant, self._response(grant)

    # --- tokens ---------------------------------------------------------------------------------

    def grant_of(self, access_token: str) -> Grant | None:
        """Return the grant of an access token that is valid now, or None."""
        with self._lock:
            return self._valid(access_token)

    def holds(self, token: str) -> bool:
        """Return whether this access token or refresh token is valid now."""
        with self._lock:
            grant = self._by_refresh.get(token)
            is_current = grant is not None and not grant.has_ended and grant.refresh_token == token
            return is_current or self._valid(token) is not None

    def expire(self, access_token: str) -> None:
        """Let an access token be expired from now on. Raises UnknownToken."""
        with self._lock:
            if access_token not in self._by_access:
                raise UnknownToken(UNKNOWN)
            self._by_access[access_token].access_tokens[access_token] = self._now()

    def end(self, token: str) -> None:
        """End the grant of this access token or refresh token. Raises UnknownToken."""
        with self._lock:
            grant = self._by_access.get(token) or self._by_refresh.get(token)
            if grant is None:
                raise UnknownToken(UNKNOWN)
            self._end(grant)

    def revoke(self, rules: Rules, token: str) -> None:
        """Revoke a token, and what the provider revokes with it. An unknown token is no error (RFC 7009)."""
        with self._lock:
            grant = self._by_access.get(token) or self._by_refresh.get(token)
            if grant is None:
                return
            if rules.revokes == "token" and token in grant.access_tokens:
                grant.access_tokens[token] = self._now()
                return
            for one in self._all:
                if one is grant or _ends_with(one, grant, rules):
                    self._end(one)

    def revoke_account(self, account: Account) -> None:
        """End every grant of an account."""
        with self._lock:
            for grant in self._all:
                if grant.account == account:
                    self._end(grant)

    # --- the console ----------------------------------------------------------------------------

    @property
    def living(self) -> list[Grant]:
        """The grants that have not ended, the newest first."""
        with self._lock:
            return [grant for grant in reversed(self._all) if not grant.has_ended]

    def numbered(self, number: int) -> Grant | None:
        with self._lock:
            return next((grant for grant in self._all if grant.number == number), None)

    def seconds_left(self, grant: Grant) -> float:
        """Return the seconds until the newest access token of a grant expires, 0 if it has expired."""
        with self._lock:
            return max(0.0, grant.expires_at - self._now())

    def expire_all(self, grant: Grant) -> None:
        """Let every access token of a grant be expired from now on."""
        with self._lock:
            grant.access_tokens = dict.fromkeys(grant.access_tokens, self._now())

    def end_all(self, grant: Grant) -> None:
        with self._lock:
            self._end(grant)

    # --------------------------------------------------------------------------------------------

    def _valid(self, access_token: str) -> Grant | None:
        grant = self._by_access.get(access_token)
        if grant is None or grant.has_ended or grant.access_tokens[access_token] <= self._now():
            return None
        return grant

    def _end(self, grant: Grant) -> None:
        grant.has_ended = True

    def _response(
        self, grant: Grant, scopes: Sequence[str] | None = None, *, repeats: bool = True
    ) -> dict[str, Any]:
        """Return the fields of RFC 6749 section 5.1. ``repeats``: name the refresh token in the response."""
        expires_at = self._now() + self.lifetime if grant.tokens_expire else inf
        access_token = self.write_access_token(_new("access"), expires_at)
        grant.access_tokens[access_token] = expires_at
        self._by_access[access_token] = grant
        if grant.has_refresh_tokens and not grant.refresh_token:
            grant.refresh_token = _new("refresh")
            self._by_refresh[grant.refresh_token] = grant
        response = {"access_token": access_token, "token_type": "Bearer", "expires_in": self.lifetime}
        # Also if it is empty: a response without it grants what was requested.
        response["scope"] = " ".join(grant.scopes if scopes is None else scopes)
        if repeats and grant.refresh_token:
            response["refresh_token"] = grant.refresh_token
        return response


def _ends_with(one: Grant, revoked: Grant, rules: Rules) -> bool:
    """Return whether a grant ends when another one is revoked."""
    if rules.revokes not in ("grant", "account") or one.account != revoked.account:
        return False
    return rules.revokes == "account" or one.client_id == revoked.client_id


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode("ascii", "replace")).digest()).rstrip(b"=").decode()


def _new(kind: str) -> str:
    return f"fake-{kind}-{secrets.token_urlsafe(24)}"


def _check_redirect_uri(requested: str, given: str | None, rules: Rules) -> None:
    is_missing = given is None and not rules.needs_redirect_uri
    if not is_missing and given != requested:
        raise Refused("invalid_grant", "The redirect_uri is not the one of the authorization request.")


def _check_verifier(challenge: str, verifier: str) -> None:
    if challenge and not compare_digest(challenge.encode(), challenge_of(verifier).encode()):
        raise Refused("invalid_grant", "The code_verifier does not fit the code_challenge.")
    if verifier and not challenge:
        raise Refused("invalid_grant", "There is a code_verifier, but there was no code_challenge.")
