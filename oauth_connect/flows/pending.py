"""Stores pending authorization requests in the user's session: sealed, few, and for ten minutes.

The session binds them to the browser that started them (RFC 6749 section 10.12).
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.contrib.sessions.backends import signed_cookies
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest

from oauth_connect import crypto
from oauth_connect.errors import KeyUnavailable

SESSION_KEY = "oauth_connect_pending"
LIFETIME = 600  # seconds
MAX_PENDING = 6
# Characters. Browsers drop a cookie of more than 4096 bytes, and the site stores its own values there too.
MAX_COOKIE_SIZE = 2800


@dataclass(frozen=True, repr=False)
class PendingAuthorization:
    """The values at the start of a flow; its end is checked against them. ``created``: epoch seconds."""

    state: str
    provider: str
    owner: str
    user: str
    client_id: str
    issuer: str
    token_endpoint: str
    redirect_uri: str
    code_verifier: str
    nonce: str
    scopes: list[str]
    next: str
    connection: str
    variables: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.created + LIFETIME, UTC)

    @property
    def has_expired(self) -> bool:
        return time.time() - self.created >= LIFETIME


def remember(request: HttpRequest, pending: PendingAuthorization) -> None:
    """Store a request in the session, and remove the oldest ones if there are too many.

    Raises SessionInterrupted (Django answers 400) if the user has signed out in another tab meanwhile.
    """
    entries = {**_stored(request), **request.session.get(SESSION_KEY, {})}
    name = _name(pending.state)
    entries[name] = [pending.created, crypto.seal(asdict(pending), _binding(name))]
    request.session[SESSION_KEY] = _newest(entries, _max_size(request))
    if not _saved(request):
        raise SessionInterrupted("The session ended while the provider was asked. Sign in and start again.")


def take(request: HttpRequest, state: str) -> PendingAuthorization | None:
    """Remove a request from the session and return it, so that its state cannot be used here again."""
    entries: dict[str, Any] = dict(request.session.get(SESSION_KEY, {}))
    name = _name(state)
    found = entries.pop(name, None)
    if found is None:
        return None
    request.session[SESSION_KEY] = entries
    if not _saved(request):
        return None
    try:
        return PendingAuthorization(**crypto.unseal(found[1], _binding(name)))
    except (KeyUnavailable, TypeError):  # TypeError: another version of this package stored it
        return None


def _saved(request: HttpRequest) -> bool:
    """Save the session, and return whether it still exists. Signing out in another tab deletes it."""
    try:
        request.session.save()
    except UpdateError:
        request.session.flush()  # otherwise the middleware fails to save it too
        return False
    return True


def _stored(request: HttpRequest) -> dict[str, Any]:
    """Read the session again. Another tab may have started a flow since this request loaded it."""
    session = request.session
    if not session.session_key:
        return {}
    fresh = type(session)(session.session_key).load()
    found = fresh.get(SESSION_KEY, {})
    return found if isinstance(found, dict) else {}


def _max_size(request: HttpRequest) -> float:
    in_cookie = isinstance(request.session, signed_cookies.SessionStore)
    return MAX_COOKIE_SIZE if in_cookie else math.inf


def _newest(entries: dict[str, Any], free: float) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    by_age = sorted(entries.items(), key=lambda entry: entry[1][0], reverse=True)
    for name, entry in by_age[:MAX_PENDING]:
        free -= len(entry[1])
        if kept and free < 0:
            break
        kept[name] = entry
    return kept


def _name(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _binding(name: str) -> crypto.Binding:
    return ("session", SESSION_KEY, name)
